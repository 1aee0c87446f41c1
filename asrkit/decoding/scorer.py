"""The score of a labelling besides its CTC log probability: the language model and the insertion bonus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrkit.lm.automaton import LmTable


class Contexts(Protocol):
    """The beginnings of labellings as a language model tells them apart, by numbers that hold within one search."""

    @property
    def start(self) -> int:
        """The context of an empty labelling."""

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Contexts (...) to natural-log probabilities (..., V) of the tokens that may follow; entry 0 is none."""

    def ends(self, contexts: np.ndarray) -> np.ndarray:
        """Contexts (...) to natural log P(</s>) (...)."""

    def after(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The contexts (...) after tokens (...)."""

    def step(self, context: int, token: int) -> tuple[int, float]:
        """The context after `token`, and natural log P(token | context)."""


class SearchLm(Protocol):
    """A language model as searches take it: an n-gram (lm.automaton) or a network (models.search_language).

    `num_classes`: V, CTC's blank and the tokens. `table`: all contexts as arrays, where that is possible.
    """

    @property
    def num_classes(self) -> int: ...

    @property
    def table(self) -> LmTable | None: ...

    def begin(self) -> Contexts:
        """The contexts of a search, which is one thread's."""


@dataclass(frozen=True, slots=True)
class TokenScorer:
    """A labelling's total score is CTC + lm_weight * LM, </s> included, + insertion_bonus * length, natural logs.

    Searches, exact scores and confidences share it, so that all use the same score. Without a language model its part
    is left out.
    """

    lm: SearchLm | None = None
    lm_weight: float = 0.0
    insertion_bonus: float = 0.0

    def total(self, ctc_log_prob: float, tokens: Sequence[int]) -> float:
        """The total score of `tokens`, whose CTC log probability is given."""
        score = ctc_log_prob + self.insertion_bonus * len(tokens)
        if self.lm is not None:
            contexts = self.lm.begin()
            context = contexts.start
            for token in tokens:
                context, log_prob = contexts.step(context, token)
                score += self.lm_weight * log_prob
            score += self.lm_weight * float(contexts.ends(np.array(context)))
        return score
