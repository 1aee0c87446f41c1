"""All settings of an experiment in one dataclass. A recipe's YAML file is read into it. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asrkit.config import yaml_config
from asrkit.decoding.config import DecodingConfig
from asrkit.errors import ConfigError, raise_if_any
from asrkit.features.config import FeatureConfig
from asrkit.models.config import ModelConfig
from asrkit.models.heads import heads_with_ctc
from asrkit.training.config import TrainingConfig


@dataclass(frozen=True)
class ExperimentConfig:
    """The sections of the YAML file. Raises ConfigError if settings of different sections contradict each other."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)

    def __post_init__(self) -> None:
        head, heads, faults = self.model.head, self.model.heads, []
        if self.training.pretrain_epochs and not (heads.has_ctc and heads.has_frames):
            faults.append(f"training.pretrain_epochs is for model.head both, found head {head}")
        if self.training.num_views > 1 and not heads.has_ctc:
            known = ", ".join(heads_with_ctc())
            faults.append(f"training.num_views 2 is for heads with CTC ({known}), found head {head}; leave it out")
        if self.training.weight_drop and self.model.has_attention:
            faults.append(
                f"training.weight_drop is for encoder recurrent, found encoder {self.model.encoder}; leave it out"
            )
        if self.training.bptt_steps is not None and (self.model.has_attention or self.model.bidirectional):
            faults.append(
                "training.bptt_steps cuts recordings into pieces, each of which begins with the state that the one "
                "before left; a model that looks ahead cannot do that, found "
                f"{self.model.looks_ahead_by}; take a recurrent encoder with model.bidirectional false, or leave it out"
            )
        raise_if_any(faults, ConfigError)


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read the configuration from the YAML file `path`. Without a file, return the defaults.

    Each of `overrides` is a text `SECTION.SETTING=VALUE`, such as "training.seed=2". It replaces the setting of the
    file.

    Raises ConfigError if a key is unknown or repeated, or a value has the wrong type or is impossible. The message has
    one line per fault, with file and line.
    """
    return yaml_config.load_config(path, ExperimentConfig, overrides)
