"""Search errors and model errors of a beam search.

If the reference has a higher total score than the hypothesis, the error is a search error: a better search would have
found another labelling. Otherwise it is a model error: the model prefers the wrong labelling. Both scores are exact
sums over all alignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.decoding.search import Search

TOLERANCE = 1e-6  # nats; rounding makes smaller differences between sums of the same paths

Labeling = tuple[int, ...]


@dataclass(frozen=True)
class ScorePair:
    """Exact total scores of two different labellings of one utterance, natural logs.

    Attributes:
        index: number of the utterance.
        first, second: the scores.
    """

    index: int
    first: float
    second: float

    @property
    def second_is_better(self) -> bool:
        """Whether the second score is higher by more than TOLERANCE."""
        return self.second > self.first + TOLERANCE


def compare_scores(
    log_probs: Sequence[np.ndarray],
    firsts: Sequence[Sequence[int]],
    seconds: Sequence[Sequence[int] | None],
    search: Search,
) -> list[ScorePair]:
    """Score two labellings of each utterance, and return those that differ.

    Args:
        log_probs: (T, V) per utterance, or another input of `search`.
        firsts: the first labelling of each utterance.
        seconds: the second one; None for a labelling that is impossible, whose score is -inf.
        search: defines the score.
    """
    pairs = []
    for index, (utt, first, second) in enumerate(zip(log_probs, firsts, seconds, strict=True)):
        if second is not None and tuple(first) == tuple(second):
            continue
        known = [first] if second is None else [first, second]
        scores = search.total_scores(utt, known)
        pairs.append(ScorePair(index, float(scores[0]), -np.inf if second is None else float(scores[1])))
    return pairs
