"""Phone times in a recording that is too long to be aligned at once, or that has not ended yet.

When the search commits itself to phones, this module aligns the steps since the last phone that has a time.

Legend: T frames, D static features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from asrkit.decoding.forced_align import AlignedTokens, num_needed
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.inference.frame_clock import AudioEnd, FrameClock
from asrkit.inference.model import Outputs
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.types import PhoneTime

SETTLE = 10.0  # seconds; phones that are twice as old cannot change any more (prefix_beam.BeamStream)
_LONGEST_GAP = 300.0  # seconds without a phone after which old steps are dropped
_CONTEXT_TOKENS = 16  # neighbours on either side of a phone for its time and confidence; no language model sees more


def settle_steps(clock: FrameClock) -> int:
    """After how many steps the search of a long recording settles."""
    return max(round(SETTLE / clock.step), 1)


class StaticSource(Protocol):
    """The input of a model for one recording, which is read in parts.

    It consists of static features (T, D), normalised if necessary.
    """

    @property
    def num_frames(self) -> int:
        """The number of frames so far."""

    def read(self, begin: int, end: int) -> np.ndarray:
        """The frames from `begin` to `end` that exist, (t, D) float32."""


class FullFeatures:
    """Full features (with deltas) of one recording, which can be read in parts."""

    def __init__(self, static: StaticSource, stats: np.ndarray, config: FeatureConfig) -> None:
        """Begin with static features.

        Args:
            static: the static features.
            stats: (2, D + 1) CMVN statistics of the recording, or those that the mode of CMVN prescribes.
            config: settings of the features.
        """
        self.static, self._stats = static, stats
        # Each part must be normalised with the statistics of the recording, not with its own.
        self._config = config.with_normalization(config.normalization.with_given_stats)

    def read(self, begin: int, end: int) -> np.ndarray:
        """The frames from `begin` to `end` that exist, (t, full dim). Deltas are those of the whole recording."""
        reach = self._config.delta_order * self._config.delta_window
        first = max(begin - reach, 0)
        feats = full_features(self.static.read(first, end + reach), self._stats, self._config)
        return feats[begin - first : min(end, self.static.num_frames) - first]


class PhoneTimeStream:
    """Times and confidences of phones, as soon as the search commits itself to them.

    It keeps the steps from some phones before the first phone without a time. Aligning these steps gives the next
    times.

    Attributes:
        times, confidences: results so far; the caller can remove them.
        duration: duration of the recording in seconds; None until it ends.
        first_step: number of the first step of the network that is kept.
    """

    def __init__(
        self, timer: PhoneTimer, features: FullFeatures, utt_id: str, duration: float | None, first_step: int = 0
    ) -> None:
        self.times: list[PhoneTime] = []
        self.confidences: list[float] = []
        self.duration = duration
        self.first_step = first_step
        self._timer, self._features, self._utt_id = timer, features, utt_id
        self._ids: list[int] = []  # tokens of the certain phones within the steps that are kept
        self._num_timed = 0  # how many of these phones have a time
        self._held: Outputs | None = None

    @property
    def pending(self) -> tuple[int, ...]:
        """Tokens of the phones that are certain but have no time yet."""
        return tuple(self._ids[self._num_timed :])

    @property
    def num_held(self) -> int:
        """The number of steps that are kept."""
        return 0 if self._held is None else len(self._held.log_probs)

    def accept(self, outputs: Outputs) -> None:
        """Take the outputs of the heads for the next steps."""
        self._held = outputs if self._held is None else _joined(self._held, outputs)

    def time(self, committed: Sequence[int], rest: Sequence[int], is_end: bool = False) -> int:
        """Find times after the search committed itself to more phones.

        Args:
            committed: tokens of these phones.
            rest: tokens of the phones after them, up to the last step; they can still change.
            is_end: whether the recording has ended.

        Returns:
            The number of steps that were dropped, less those that their phones needed; see SearchStream.use_up.
        """
        self._ids += committed
        ids = (*self._ids, *rest)
        clock = self._timer.clock
        if not is_end and len(ids) == len(self._ids) and self.num_held * clock.step > _LONGEST_GAP:
            # Nobody spoke for minutes, so the time of the next phone does not depend on earlier phones.
            self._time_first(len(ids), ids)
            return self._drop(self.num_held - settle_steps(clock), len(ids))
        num_certain = len(ids) if is_end else min(len(self._ids), len(ids) - _CONTEXT_TOKENS)
        aligned = self._time_first(num_certain, ids)
        num_past = num_certain - _CONTEXT_TOKENS
        if aligned is not None and not is_end and num_past > 0:
            # Cut in the middle of the blanks between two phones. If there are any, one blank stays before the cut.
            return self._drop(int(aligned.ends[num_past - 1] + aligned.starts[num_past] + 1) // 2, num_past)
        return 0

    def _time_first(self, number: int, ids: tuple[int, ...]) -> AlignedTokens | None:
        """Find the times of the first `number` of the phones `ids`. Returns None if all of them have a time already."""
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

    def _drop(self, num_steps: int, num_phones: int) -> int:
        """Forget the first `num_steps` steps and the first `num_phones` phones. Returns the same as `time`."""
        if self._held is not None:
            frames = self._held.frame_log_probs
            frames = None if frames is None else frames[num_steps * self._timer.clock.skip :].copy()
            self._held = Outputs(self._held.log_probs[num_steps:].copy(), frames)
        self.first_step += num_steps
        dropped, self._ids = self._ids[:num_phones], self._ids[num_phones:]
        self._num_timed -= num_phones
        return num_steps - num_needed(dropped)


def _joined(held: Outputs, new: Outputs) -> Outputs:
    frames = None
    if held.frame_log_probs is not None and new.frame_log_probs is not None:
        frames = np.concatenate([held.frame_log_probs, new.frame_log_probs])
    return Outputs(np.concatenate([held.log_probs, new.log_probs]), frames)
