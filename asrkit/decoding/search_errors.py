"""Search errors and model errors of beam search, over log-probabilities held in memory.

The search made an error where the reference has a higher total score than the hypothesis: a better search would have
found something else. Otherwise the model prefers what is wrong. Both scores are exact, of all alignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forward import total_scores
from asrkit.decoding.greedy import greedy_search
from asrkit.decoding.prefix_beam import prefix_beam_search_batch
from asrkit.lm.ngram import NgramLM

TOLERANCE = 1e-6  # nats: two sums of the same paths differ by less

Labelling = tuple[int, ...]


def search_all(
    log_probs: Sequence[np.ndarray], config: DecodingConfig, lm: NgramLM | None, num_threads: int = 1
) -> list[Labelling]:
    """The best labelling of each utterance (T, V), on `num_threads` threads."""
    if config.method == "greedy":
        return [tuple(greedy_search(utt, config.blank_penalty)[0]) for utt in log_probs]
    found = prefix_beam_search_batch(
        log_probs,
        num_threads=num_threads,
        beam=config.beam,
        beam_threshold=config.beam_threshold,
        lm=lm if config.lm_weight else None,
        lm_weight=config.lm_weight,
        insertion_bonus=config.insertion_bonus,
    )
    return [results[0].tokens for results in found]


@dataclass(frozen=True)
class ScorePair:
    """Exact total scores of two different labellings of one utterance."""

    index: int  # of the utterance
    first: float
    second: float

    @property
    def second_is_better(self) -> bool:
        return self.second > self.first + TOLERANCE


def compare_scores(
    log_probs: Sequence[np.ndarray],
    firsts: Sequence[Sequence[int]],
    seconds: Sequence[Sequence[int] | None],
    config: DecodingConfig,
    lm: NgramLM | None,
) -> list[ScorePair]:
    """A ScorePair for each utterance whose two labellings differ. None: one that cannot be, its score is -inf."""
    automaton = lm.automaton if lm is not None and config.lm_weight else None
    pairs = []
    for index, (utt, first, second) in enumerate(zip(log_probs, firsts, seconds, strict=True)):
        if second is not None and tuple(first) == tuple(second):
            continue
        known = [first] if second is None else [first, second]
        scores = total_scores(
            utt, known, lm=automaton, lm_weight=config.lm_weight, insertion_bonus=config.insertion_bonus
        )
        pairs.append(ScorePair(index, float(scores[0]), -np.inf if second is None else float(scores[1])))
    return pairs
