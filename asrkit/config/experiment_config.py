"""All settings of an experiment as one dataclass: what a recipe's YAML file is read into. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from asrkit.decoding.config import DecodingConfig
from asrkit.errors import ConfigError, raise_if_any
from asrkit.features.config import FeatureConfig
from asrkit.models.config import ModelConfig
from asrkit.training.config import TrainingConfig


@dataclass(frozen=True)
class ExperimentConfig:
    """The sections of the YAML file."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        head, heads, faults = self.model.head, self.model.heads, []
        if self.training.pretrain_epochs and not (heads.has_ctc and heads.has_frames):
            faults.append(f"training.pretrain_epochs is for model.head both, found head {head}")
        if self.training.num_views > 1 and not heads.has_ctc:
            faults.append(f"training.num_views 2 is for heads ctc and both, found head {head}; leave it out")
        raise_if_any(faults, ConfigError)
