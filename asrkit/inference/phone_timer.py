"""From log-probabilities and a labelling to phone times and confidences: the one way there.

Legend: T frames, T' steps, D feature dim, U tokens, V output classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.decoding.confidence import Calibration, phone_evidence
from asrkit.decoding.forced_align import AlignedTokens, forced_align
from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.spans import Peaks, Reach, peak_frames, split_between
from asrkit.inference.frame_clock import AudioEnd, FrameClock, frame_clock
from asrkit.inference.model import Model, Outputs
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.protocols import silences
from asrkit.types import PhoneTime


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording, or all of it, whose phones are timed at once.

    `utt_id` names the recording in messages. `audio_end` is where the recording ends, None while it is going on. The
    part begins in frame `first_frame`.
    """

    utt_id: str
    audio_end: AudioEnd | None
    first_frame: int = 0


@dataclass(frozen=True, slots=True)
class TimedPhones:
    """The frames of U tokens on the best path, the times of their sounds, and the evidence (U, 2) for confidences."""

    aligned: AlignedTokens
    times: tuple[PhoneTime, ...]
    evidence: np.ndarray


class PhoneTimer:
    """Finds when the phones of a labelling are spoken, and how sure each of them is. Holds no network and no state.

    `silences`: ids of the tokens that stand for silence, which may be of any length; `silent_phones`: their phones.
    """

    def __init__(
        self, tokens: TokenTable, clock: FrameClock, scorer: TokenScorer, calibration: Calibration | None = None
    ) -> None:
        """`scorer` is that of the search. Without a `calibration` confidences are the odds of phone_log_odds."""
        self.tokens, self.clock = tokens, clock
        self.silent_phones = frozenset(silences(tokens.phones))
        self.silences = frozenset(tokens.encode(sorted(self.silent_phones)))
        self._scorer = scorer
        self._calibration = calibration or Calibration()

    @classmethod
    def for_model(cls, model: Model, scorer: TokenScorer) -> PhoneTimer:
        """The timer of what a search with this `scorer` finds in a model's outputs."""
        return cls(model.tokens, frame_clock(model.features, model.config), scorer, model.calibration)

    def time(self, outputs: Outputs, feats: np.ndarray, tokens: Sequence[int], stretch: Stretch) -> TimedPhones:
        """Align a labelling `tokens` (U,) with the outputs, and find the times of its phones.

        Args:
            outputs: log_probs of a stretch's steps or frames; frame_log_probs (T, V - 1), or None.
            feats: (T, D) full features of the stretch.

        Raises DataError as forced_align.
        """
        aligned = forced_align(outputs.log_probs, tokens, utt_id=stretch.utt_id)
        evidence = phone_evidence(outputs.log_probs, aligned, self._scorer)
        return TimedPhones(aligned, self.times(outputs, feats, aligned, stretch), evidence)

    def times(
        self, outputs: Outputs, feats: np.ndarray, aligned: AlignedTokens, stretch: Stretch
    ) -> tuple[PhoneTime, ...]:
        """The times of aligned tokens, in seconds from the beginning of the recording. Arguments as for `time`."""
        starts, ends = (stretch.first_frame + bounds for bounds in self.spans(outputs, feats, aligned))
        phones = self.tokens.decode(aligned.tokens)
        return self.clock.phone_times(phones, starts, ends, stretch.audio_end)

    def spans(self, outputs: Outputs, feats: np.ndarray, aligned: AlignedTokens) -> tuple[np.ndarray, np.ndarray]:
        """First frame of each aligned token and the frame after its last, both (U,), within the stretch.

        Neighbours touch, except that pauses which no token stands for belong to none.
        """
        skip, middle = (1, 0.0) if outputs.by_frame else (self.clock.skip, self.clock.middle)
        frames = peak_frames(outputs.log_probs, aligned, len(feats), skip, middle)
        peaks = Peaks(frames, aligned.tokens, np.isin(aligned.tokens, list(self.silences)))
        return split_between(feats, peaks, Reach.in_frames(self.clock.shift), outputs.frame_log_probs)

    def confidences(self, evidence: np.ndarray) -> tuple[float, ...]:
        """The evidence of `time` as n confidences, each the probability that the phone is right."""
        return tuple(self._calibration(evidence).tolist())
