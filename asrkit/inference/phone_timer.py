"""From log-probabilities and phones to phone times and confidences. All recognisers use this module.

Legend: T frames, T' steps, D feature dim, U tokens, V output classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from asrkit.decoding.confidence import Calibration, phone_evidence
from asrkit.decoding.forced_align import AlignedTokens, forced_align
from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.search import Search
from asrkit.decoding.spans import Peaks, Reach, peak_frames, split_between
from asrkit.inference.frame_clock import AudioEnd, FrameClock, frame_clock
from asrkit.inference.model import Model, Outputs
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.protocols import silences
from asrkit.types import PhoneTime

Emissions = Callable[[np.ndarray, Sequence[int]], np.ndarray]  # Search.emissions


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording, or all of it, whose phones get their times together.

    Attributes:
        utt_id: the name of the recording, for messages.
        audio_end: the end of the recording; None while it continues.
        first_frame: the number of the part's first frame within the recording.
    """

    utt_id: str
    audio_end: AudioEnd | None
    first_frame: int = 0


@dataclass(frozen=True, slots=True)
class TimedPhones:
    """The result for U phones.

    Attributes:
        aligned: their frames on the best path.
        times: their times.
        evidence: (U, 4) evidence for their confidences, see confidence.phone_evidence.
    """

    aligned: AlignedTokens
    times: tuple[PhoneTime, ...]
    evidence: np.ndarray


class PhoneTimer:
    """Finds the times of given phones, and how certain each of them is. It has no network and no state.

    Attributes:
        silences: ids of the tokens for silence, which can have any length.
        silent_phones: their phones.
    """

    def __init__(
        self,
        tokens: TokenTable,
        clock: FrameClock,
        scorer: TokenScorer,
        calibration: Calibration | None = None,
        emissions: Emissions = lambda log_probs, tokens: log_probs,
    ) -> None:
        """Make a timer. `scorer` and `emissions` belong to the search.

        Without a `calibration`, confidences are uncalibrated odds; see confidence.phone_log_odds.
        """
        self.tokens, self.clock = tokens, clock
        self.silent_phones = frozenset(silences(tokens.phones))
        self.silences = frozenset(tokens.encode(sorted(self.silent_phones)))
        self._scorer, self._emissions = scorer, emissions
        self._calibration = calibration or Calibration()

    @classmethod
    def for_model(cls, model: Model, search: Search) -> PhoneTimer:
        """The timer for the results of a `search` in the outputs of a model."""
        clock = frame_clock(model.features, model.config)
        return cls(model.tokens, clock, search.scorer, model.calibration, search.emissions)

    def time(self, outputs: Outputs, feats: np.ndarray, tokens: Sequence[int], stretch: Stretch) -> TimedPhones:
        """Align phones with the outputs, and find their times.

        Args:
            outputs: log_probs of the steps of the stretch, as the search takes them; frame_log_probs (T, V - 1), or
                None.
            feats: (T, D) full features of the stretch.
            tokens: the U phones.
            stretch: the part of the recording.

        Raises:
            DataError: as forced_align.
        """
        outputs = replace(outputs, log_probs=self._emissions(outputs.log_probs, tokens))
        aligned = forced_align(outputs.log_probs, tokens, utt_id=stretch.utt_id)
        evidence = phone_evidence(outputs.log_probs, aligned, self._scorer)
        return TimedPhones(aligned, self.times(outputs, feats, aligned, stretch), evidence)

    def times(
        self, outputs: Outputs, feats: np.ndarray, aligned: AlignedTokens, stretch: Stretch
    ) -> tuple[PhoneTime, ...]:
        """The times of aligned tokens, in seconds from the beginning of the recording.

        `feats` is (T, D); see `time`.
        """
        starts, ends = (stretch.first_frame + bounds for bounds in self.spans(outputs, feats, aligned))
        phones = self.tokens.decode(aligned.tokens)
        return self.clock.phone_times(phones, starts, ends, stretch.audio_end)

    def spans(self, outputs: Outputs, feats: np.ndarray, aligned: AlignedTokens) -> tuple[np.ndarray, np.ndarray]:
        """The first frame of each aligned token, and the frame after its last one: (U,) each, within the stretch.

        Neighbours touch each other. Only pauses for which there is no token belong to no phone. `feats` is (T, D); see
        `time`.
        """
        skip, middle = (1, 0.0) if outputs.by_frame else (self.clock.skip, self.clock.middle)
        frames = peak_frames(outputs.log_probs, aligned, len(feats), skip, middle)
        peaks = Peaks(frames, aligned.tokens, np.isin(aligned.tokens, list(self.silences)))
        return split_between(feats, peaks, Reach.in_frames(self.clock.shift), outputs.frame_log_probs)

    def confidences(self, evidence: np.ndarray) -> tuple[float, ...]:
        """The probability that each phone is right, from the `evidence` (U, 4) of `time`."""
        return tuple(self._calibration(evidence).tolist())
