"""Settings of decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.errors import ConfigError, raise_if_any

SearchMethod = Literal["greedy", "beam"]


@dataclass(frozen=True)
class DecodingConfig:
    """How log-probabilities become phones."""

    method: SearchMethod = "beam"
    beam: int = 16  # prefixes kept a frame
    beam_threshold: float | None = None  # drop prefixes this many nats below the best, too
    lm_weight: float = 0.3  # beam only: of the phone language model's natural-log probability; 0 leaves it out
    insertion_bonus: float = 1.5  # beam only: added for every phone, in nats
    blank_penalty: float = 0.0  # greedy only: taken off the blank's log probability at each step, in nats

    def __post_init__(self) -> None:
        faults = []
        if self.beam < 1:
            faults.append(f"decoding.beam must be at least 1, found {self.beam}")
        if self.beam_threshold is not None and self.beam_threshold < 0:
            faults.append(f"decoding.beam_threshold must not be negative, found {self.beam_threshold}")
        if self.lm_weight < 0:
            faults.append(f"decoding.lm_weight must not be negative, found {self.lm_weight}")
        raise_if_any(faults, ConfigError)
