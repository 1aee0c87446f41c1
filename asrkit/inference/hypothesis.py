"""From the results of a search to a Hypothesis, and other symbols for its phones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from asrkit.decoding.forward import ctc_log_probs
from asrkit.decoding.search import BeamResult, Search
from asrkit.lang.ipa import ipa_table
from asrkit.lang.tokens import TokenTable
from asrkit.models.heads import Heads
from asrkit.scoring.protocols import silences
from asrkit.types import Alternative, Hypothesis, PhoneTime

_LONG = 5.0  # seconds; a longer recording can be music without speech, since nobody holds a vowel for so long
_LOG_RATIO = 2.0  # log p(phones) - log p(no phones); at least 8 in 500 clean sentences with the English model


def make_hypothesis(
    utt_id: str, tokens: TokenTable, results: Sequence[BeamResult], num_alternatives: int = 0
) -> Hypothesis:
    """Make a hypothesis without times from the best result.

    The first `num_alternatives` results are its alternatives.
    """
    alternatives = tuple(
        Alternative(tokens.decode(result.tokens), result.score, result.ctc_log_prob)
        for result in results[:num_alternatives]
    )
    best = results[0]
    return Hypothesis(utt_id, tokens.decode(best.tokens), best.ctc_log_prob, alternatives=alternatives)


def is_nothing(best: BeamResult, log_ratio: float, seconds: float) -> bool:
    """Whether the phones of a recording are hardly more probable than no phones at all.

    The search has a bonus for phones. So it finds some phones even where the network is nearly sure that there are
    none, for example in music. A held vowel looks similar, so recordings shorter than 5 s always keep their phones.

    Args:
        best: the best result of the search.
        log_ratio: log p(phones | audio) - log p(no phones | audio), as `log_ratio_to_nothing`.
        seconds: duration of the recording.
    """
    return bool(best.tokens) and seconds >= _LONG and log_ratio < _LOG_RATIO


def log_ratio_to_nothing(search: Search, heads: Heads, stored: np.ndarray, best: BeamResult) -> float:
    """log p(phones | audio) - log p(no phones | audio), in nats, from CTC.

    With a decoder, CTC decides nevertheless. A decoder learns only from transcripts with phones, so it gives an empty
    transcript the same small probability for speech and for music. Without CTC there is no evidence.

    Args:
        search: the search that found the phones.
        heads: the heads of the model.
        stored: (T, C) output of the model for the recording or a piece of it; the input of the search.
        best: the best result of the search.

    Returns:
        The difference; inf if there is no evidence.
    """
    if not heads.has_decoder:
        return best.ctc_log_prob - log_of_blanks(stored)
    if not heads.has_ctc:
        return np.inf
    log_probs = search.emissions(stored, best.tokens)
    return float(ctc_log_probs(log_probs, [best.tokens])[0]) - log_of_blanks(log_probs)


def log_ratio_of_path(search: Search, heads: Heads, stored: np.ndarray) -> float:
    """log p(most probable path) - log p(no phones), in nats, from the CTC head of a model with a decoder.

    It replaces log_ratio_to_nothing while the phones of a window are not known. The values of windows add up.

    Args:
        search: the search of the recording.
        heads: the heads of the model.
        stored: (T, C) output of the model for the window; the input of the search.

    Returns:
        The difference; inf without CTC.
    """
    if not heads.has_ctc:
        return np.inf
    log_probs = search.emissions(stored, ())
    return float((log_probs.max(axis=1) - log_probs[:, 0]).sum(dtype=np.float64))


def log_of_blanks(log_probs: np.ndarray) -> float:
    """Natural log of the probability that all steps are blank, from CTC's `log_probs` (T', V)."""
    return float(log_probs[:, 0].sum(dtype=np.float64))


def no_speech(utt_id: str, with_times: bool) -> Hypothesis:
    """The hypothesis of a recording without speech."""
    return Hypothesis(utt_id, (), 0.0, confidence=0.0 if with_times else None)


def add_times(hypothesis: Hypothesis, times: tuple[PhoneTime, ...], confidences: tuple[float, ...]) -> Hypothesis:
    """The hypothesis with times and confidences of its phones. Its own confidence is their mean."""
    mean = float(np.mean(confidences)) if confidences else 0.0
    return replace(hypothesis, times=times, confidences=confidences, confidence=mean)


def ipa_symbols(tokens: TokenTable) -> Mapping[str, str]:
    """A table from a model's phones to IPA. Silences are not in it. Raises DataError as ipa_table."""
    return ipa_table(set(tokens.phones) - silences(tokens.phones))
