"""Search errors and model errors of beam search, over log-probabilities held in memory.

If the reference has a higher total score than the hypothesis, the search made an error: a better search would have
found another labelling. Otherwise the model prefers the wrong labelling. Both scores are exact and sum all alignments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.decoding.search import Search

TOLERANCE = 1e-6  # nats: two sums of the same paths differ by less

Labeling = tuple[int, ...]


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
    search: Search,
) -> list[ScorePair]:
    """A ScorePair for each utterance whose two labellings differ, by what `search` maximises.

    None: one that cannot be, its score is -inf.
    """
    pairs = []
    for index, (utt, first, second) in enumerate(zip(log_probs, firsts, seconds, strict=True)):
        if second is not None and tuple(first) == tuple(second):
            continue
        known = [first] if second is None else [first, second]
        scores = search.total_scores(utt, known)
        pairs.append(ScorePair(index, float(scores[0]), -np.inf if second is None else float(scores[1])))
    return pairs
