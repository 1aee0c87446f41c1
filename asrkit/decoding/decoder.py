"""From one utterance's log-probabilities to a Hypothesis, as a DecodingConfig says.

Legend: T' steps of the network, V output classes.
"""

from __future__ import annotations

import numpy as np

from asrkit.decoding.confidence import Calibration, phone_evidence
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.methods import make_search
from asrkit.decoding.search import BeamResult
from asrkit.decoding.spans import FrameClock
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import LmAutomaton
from asrkit.scoring.protocols import silences
from asrkit.types import Hypothesis


class Decoder:
    """Log-probabilities to a Hypothesis. Holds no network, so that it is cheap to send to a worker process."""

    def __init__(
        self,
        tokens: TokenTable,
        config: DecodingConfig,
        lm: LmAutomaton | None,
        clock: FrameClock | None = None,
        calibration: Calibration | None = None,
    ):
        """Times need a `clock`. Without a `calibration` confidences are the odds of phone_log_odds as they are."""
        self.tokens = tokens
        self.search = make_search(config, lm)
        self.clock = clock
        self.silences = frozenset(tokens.encode(sorted(silences(tokens.phones))))
        self.calibration = calibration or Calibration()

    def __call__(
        self,
        utt_id: str,
        log_probs: np.ndarray,
        feats: np.ndarray | None = None,
        duration: float | None = None,
        frame_log_probs: np.ndarray | None = None,
    ) -> Hypothesis:
        """`log_probs` (T', V) -> the best hypothesis, with times and confidences when `feats` (T, D) are given.

        A phone's time is its span as spans.py finds it in the full features and, if there are any, in
        `frame_log_probs` (T, V - 1) of a frame-wise head, within the audio's `duration` in seconds; its confidence is
        the calibrated probability that it is right.
        """
        best = self.search.decode(log_probs)[0]
        if feats is None:
            return Hypothesis(utt_id, self.tokens.decode(best.tokens), best.ctc_log_prob)
        return self.timed(utt_id, best, log_probs, feats, duration, frame_log_probs)

    def timed(
        self,
        utt_id: str,
        best: BeamResult,
        log_probs: np.ndarray,
        feats: np.ndarray,
        duration: float | None = None,
        frame_log_probs: np.ndarray | None = None,
    ) -> Hypothesis:
        """What the search found in `log_probs`, with times and confidences."""
        phones = self.tokens.decode(best.tokens)
        aligned = forced_align(log_probs, best.tokens, utt_id=utt_id)
        spans = self.clock.spans(feats, log_probs, aligned, self.silences, frame_log_probs)
        times = self.clock.phone_times(phones, *spans, len(feats), duration)
        confidences = self.calibration(phone_evidence(log_probs, aligned, self.search.scorer))
        mean = float(confidences.mean()) if len(confidences) else 0.0
        return Hypothesis(utt_id, phones, best.ctc_log_prob, times, tuple(confidences.tolist()), mean)
