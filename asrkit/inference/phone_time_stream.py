"""Phone times of a recording that is too long to be aligned at once, or is still going on.

Phones that the search is committed to get their times by aligning the steps since a phone that is timed already.

Legend: T frames, D static features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from asrkit.decoding.forced_align import AlignedTokens
from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import full_features
from asrkit.inference.frame_clock import AudioEnd, FrameClock
from asrkit.inference.model import Outputs
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.types import PhoneTime

SETTLE = 10.0  # seconds: what is twice as old cannot change any more (prefix_beam.BeamStream)
_LONGEST_GAP = 300.0  # seconds to which the next phone's time may go back
_CONTEXT_TOKENS = 16  # to either side of a phone, for its time and confidence: more than any language model looks at


def settle_steps(clock: FrameClock) -> int:
    """After how many steps the search of a long recording settles."""
    return max(round(SETTLE / clock.step), 1)


class StaticSource(Protocol):
    """A model's input for one recording, (T, D), read in parts: static features, normalized if necessary."""

    @property
    def num_frames(self) -> int:
        """How many frames there are so far."""

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames `begin` to `end`, those that there are."""


class FullFeatures:
    """Full features of one recording, which are read in parts."""

    def __init__(self, static: StaticSource, stats: np.ndarray, config: FeatureConfig) -> None:
        """`stats` (2, D + 1): the CMVN statistics of the recording, or those that the mode of CMVN is given."""
        self.static, self._stats = static, stats
        # So that the recording's statistics are taken rather than a part's own.
        self._config = config.with_normalization(config.normalization.with_given_stats)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames `begin` to `end`, those that there are, (t, D * (delta_order + 1)); deltas are as in the whole."""
        reach = self._config.delta_order * self._config.delta_window
        first = max(begin - reach, 0)
        feats = full_features(self.static.read(first, end + reach), self._stats, self._config)
        return feats[begin - first : min(end, self.static.num_frames) - first]


class PhoneTimeStream:
    """Times and confidences of phones, as the search commits itself to them.

    It holds the steps from some phones before the first that is not timed yet: those are aligned, and tell where the
    next ones begin. `times` and `confidences` may be taken away. `duration` of the recording, in seconds: None while it
    is going on. `first_step` of the network is the first that is held.
    """

    def __init__(
        self, timer: PhoneTimer, features: FullFeatures, utt_id: str, duration: float | None, first_step: int = 0
    ) -> None:
        self.times: list[PhoneTime] = []
        self.confidences: list[float] = []
        self.duration = duration
        self.first_step = first_step
        self._timer, self._features, self._utt_id = timer, features, utt_id
        self._ids: list[int] = []  # of the phones within the steps that are held, as far as they are certain
        self._num_timed = 0  # of those
        self._held: Outputs | None = None

    @property
    def pending(self) -> tuple[int, ...]:
        """The phones, as tokens, that are certain but not timed yet."""
        return tuple(self._ids[self._num_timed :])

    @property
    def num_held(self) -> int:
        """How many steps are held."""
        return 0 if self._held is None else len(self._held.log_probs)

    def accept(self, outputs: Outputs) -> None:
        """Take what the heads give for the next steps."""
        self._held = outputs if self._held is None else _joined(self._held, outputs)

    def time(self, committed: Sequence[int], rest: Sequence[int], is_end: bool = False) -> None:
        """Find times after more phones were `committed`; the `rest`, up to the last step held, may change yet."""
        self._ids += committed
        ids = (*self._ids, *rest)
        clock = self._timer.clock
        if not is_end and len(ids) == len(self._ids) and self.num_held * clock.step > _LONGEST_GAP:
            # Nothing was said for minutes: what comes next will have its time without what came before.
            self._time_first(len(ids), ids)
            self._drop(self.num_held - settle_steps(clock), len(ids))
            return
        num_certain = len(ids) if is_end else min(len(self._ids), len(ids) - _CONTEXT_TOKENS)
        aligned = self._time_first(num_certain, ids)
        num_past = num_certain - _CONTEXT_TOKENS
        if aligned is not None and not is_end and num_past > 0:
            # In the middle of the blanks between two phones: where there are any, one remains before the cut.
            self._drop(int(aligned.ends[num_past - 1] + aligned.starts[num_past] + 1) // 2, num_past)

    def _time_first(self, number: int, ids: tuple[int, ...]) -> AlignedTokens | None:
        """Time the first `number` of the phones `ids` that lie within the steps held; None if all of them are timed."""
        if number <= self._num_timed or self._held is None:
            return None
        begin = self.first_step * self._timer.clock.skip
        frames = self._held.frame_log_probs
        end = begin + (self.num_held * self._timer.clock.skip if frames is None else len(frames))
        audio_end = None if self.duration is None else AudioEnd(self._features.static.num_frames, self.duration)
        stretch = Stretch(self._utt_id, audio_end, begin)
        timed = self._timer.time(self._held, self._features.read(begin, end), ids, stretch)
        new = slice(self._num_timed, number)
        self.times += timed.times[new]
        self.confidences += self._timer.confidences(timed.evidence[new])
        self._num_timed = number
        return timed.aligned

    def _drop(self, num_steps: int, num_phones: int) -> None:
        """Forget the first of the steps that are held, and of their phones."""
        if self._held is not None:
            frames = self._held.frame_log_probs
            frames = None if frames is None else frames[num_steps * self._timer.clock.skip :].copy()
            self._held = Outputs(self._held.log_probs[num_steps:].copy(), frames)
        self.first_step += num_steps
        self._ids, self._num_timed = self._ids[num_phones:], self._num_timed - num_phones


def _joined(held: Outputs, new: Outputs) -> Outputs:
    frames = None
    if held.frame_log_probs is not None and new.frame_log_probs is not None:
        frames = np.concatenate([held.frame_log_probs, new.frame_log_probs])
    return Outputs(np.concatenate([held.log_probs, new.log_probs]), frames)
