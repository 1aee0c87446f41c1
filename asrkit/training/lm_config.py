"""Settings for the training of a neural language model. Does not load torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from asrkit.config import yaml_config
from asrkit.config.ranges import InsideUnit, NonNegative, NonNegativeInt, Positive, PositiveInt
from asrkit.device import CPU
from asrkit.models.language_config import LanguageConfig
from asrkit.training.config import Device, OptimizerName, ScheduleName, TrainingConfig


@dataclass(frozen=True)
class LmTrainingConfig:
    """Batches, optimizer and schedule. Settings that TrainingConfig also has mean the same and have the same limits.

    Raises ConfigError for impossible values.
    """

    num_epochs: PositiveInt = 15  # at most
    batch_size: PositiveInt = 16  # sentences
    bptt_steps: PositiveInt = 35  # tokens of a piece: gradients do not go back into the previous piece
    optimizer: OptimizerName = "adamw"
    momentum: NonNegative = 0.9  # sgd only
    weight_decay: NonNegative = 0.3
    schedule: ScheduleName = "one_cycle"
    max_lr: Positive = 4e-3  # highest rate of one_cycle and noam; first rate of the others
    warmup: InsideUnit = 0.1  # one_cycle and noam: share of all updates in which the rate rises
    lr_factor: InsideUnit = 0.5  # plateau and newbob: factor by which the rate falls
    lr_patience: NonNegativeInt = 2  # plateau: epochs without improvement before the rate falls
    newbob_threshold: NonNegative = 0.005  # newbob: relative improvement below which the rate starts to fall
    min_lr: NonNegative = 0.0  # plateau and newbob: training ends when the rate would fall below
    clip_norm: Positive | None = 1.0  # of all gradients together
    early_stopping: PositiveInt | None = 8  # end after so many epochs without a lower dev perplexity
    checkpoint_minutes: Positive = 2.0  # time between checkpoints within an epoch; each epoch also ends with one
    seed: NonNegativeInt = 1
    num_threads: PositiveInt = 1  # CPU threads
    device: Device = CPU

    def __post_init__(self) -> None:
        self.general()

    def general(self) -> TrainingConfig:
        """The settings for the optimizer and the schedule. Raises ConfigError for impossible values."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return TrainingConfig(**own)


@dataclass(frozen=True)
class NeuralLmConfig:
    """The sections of a neural language model's YAML file. Raises ConfigError for impossible values."""

    model: LanguageConfig = field(default_factory=LanguageConfig)
    training: LmTrainingConfig = field(default_factory=LmTrainingConfig)


def load_lm_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> NeuralLmConfig:
    """Read the configuration of a neural language model from the YAML file `path`. Without a file, return the defaults.

    `overrides` and errors are those of load_config.
    """
    return yaml_config.load_config(path, NeuralLmConfig, overrides)
