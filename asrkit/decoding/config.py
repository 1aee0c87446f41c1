"""Settings of decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.config.ranges import NonNegative, PositiveInt, range_faults
from asrkit.errors import ConfigError, raise_if_any

SearchMethod = Literal["greedy", "beam"]


@dataclass(frozen=True)
class DecodingConfig:
    """How log-probabilities become phones. Raises ConfigError for impossible values."""

    method: SearchMethod = "beam"
    beam: PositiveInt = 16  # prefixes kept per step
    beam_threshold: NonNegative | None = None  # drop prefixes this many nats below the best, too
    lm_weight: NonNegative = 0.3  # beam only: of the phone language model's natural-log probability; 0 leaves it out
    insertion_bonus: float = 1.5  # beam only: added for every phone, in nats
    blank_penalty: float = 0.0  # greedy only: taken off the blank's log probability at each step, in nats

    def __post_init__(self) -> None:
        raise_if_any(range_faults(self, "decoding"), ConfigError)
