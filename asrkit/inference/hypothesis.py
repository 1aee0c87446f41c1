"""The result of a search as a Hypothesis, and the symbols in which it may be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from asrkit.decoding.search import BeamResult
from asrkit.lang.ipa import ipa_table
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.protocols import silences
from asrkit.types import Alternative, Hypothesis, PhoneTime

_LONG = 5.0  # seconds from which a recording may be of music alone; nobody holds a vowel for so long
_LOG_RATIO = 2.0  # of p(phones) to p(no phones); with the English model it is 8 or more in 500 clean sentences


def make_hypothesis(
    utt_id: str, tokens: TokenTable, results: Sequence[BeamResult], num_alternatives: int = 0
) -> Hypothesis:
    """The best of one result or more, without times; the first `num_alternatives` of them are its alternatives."""
    alternatives = tuple(
        Alternative(tokens.decode(result.tokens), result.score, result.ctc_log_prob)
        for result in results[:num_alternatives]
    )
    best = results[0]
    return Hypothesis(utt_id, tokens.decode(best.tokens), best.ctc_log_prob, alternatives=alternatives)


def is_nothing(best: BeamResult, no_phones: float, seconds: float) -> bool:
    """Whether the phones of a recording are hardly more probable than no phones at all.

    The search has a bonus for phones. So it finds some where the network is nearly sure that there are none, as in
    music, or in a vowel that is held. So recordings of less than 5 s keep their phones.

    Args:
        best: what CTC's search found.
        no_phones: log p(no phones | audio), as log_of_blanks.
        seconds: the recording's duration.
    """
    return bool(best.tokens) and seconds >= _LONG and best.ctc_log_prob - no_phones < _LOG_RATIO


def log_of_blanks(log_probs: np.ndarray) -> float:
    """Log-probability that all steps are blank, of CTC's `log_probs` (T', V)."""
    return float(log_probs[:, 0].sum(dtype=np.float64))


def no_speech(utt_id: str, with_times: bool) -> Hypothesis:
    """The hypothesis of a recording in which nobody speaks."""
    return Hypothesis(utt_id, (), 0.0, confidence=0.0 if with_times else None)


def add_times(hypothesis: Hypothesis, times: tuple[PhoneTime, ...], confidences: tuple[float, ...]) -> Hypothesis:
    """The hypothesis with the times and confidences of its phones."""
    mean = float(np.mean(confidences)) if confidences else 0.0
    return replace(hypothesis, times=times, confidences=confidences, confidence=mean)


def ipa_symbols(tokens: TokenTable) -> Mapping[str, str]:
    """The table from a model's phones to IPA; silences stay as they are. Raises DataError as ipa_table."""
    return ipa_table(set(tokens.phones) - silences(tokens.phones))
