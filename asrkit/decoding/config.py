"""Settings of decoding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from asrkit.config.ranges import NonNegative, PositiveInt, Share, at_most, between, range_faults
from asrkit.errors import ConfigError, raise_if_any

# Settings that the files of older exported models lack.
YOUNGER_DECODING = ("ctc_weight", "coverage_weight")

SearchMethod = Literal["greedy", "beam"]

# Far above useful values. Beyond these limits a search uses all memory, or its scores overflow.
WIDEST_BEAM = 100_000
_Beam = Annotated[PositiveInt, at_most(WIDEST_BEAM)]
_Weight = Annotated[NonNegative, at_most(1e6)]
_Nats = Annotated[float, between(-1e6, 1e6)]


@dataclass(frozen=True)
class DecodingConfig:
    """Settings of the search for phones. Raises ConfigError for impossible values."""

    method: SearchMethod = "beam"
    beam: _Beam = 16  # prefixes kept per step
    beam_threshold: NonNegative | None = None  # drop prefixes this many nats below the best, too
    lm_weight: _Weight = 0.3  # beam only: of the phone language model's natural-log probability; 0 leaves it out
    insertion_bonus: _Nats = 1.5  # beam only: added for every phone, in nats
    ctc_weight: Share = 0.3  # beam of a joint model: of CTC's log probability; the decoder's has the rest
    coverage_weight: _Weight = 0.0  # beam of a decoder: added for every step that some phone looked at, in nats
    blank_penalty: _Nats = 0.0  # greedy only: taken off the blank's log probability at each step, in nats

    def __post_init__(self) -> None:
        raise_if_any(range_faults(self, "decoding"), ConfigError)
