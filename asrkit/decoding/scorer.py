"""The score of a labelling besides its acoustic log probability: the language model and the insertion bonus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrkit.lm.automaton import LmTable


class Contexts(Protocol):
    """The interface of a search's contexts: beginnings of labellings, as far as the language model distinguishes them.

    Contexts are numbers, which have a meaning only within one search.
    """

    @property
    def start(self) -> int:
        """The context of an empty labelling."""

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Natural-log probabilities (..., V) of the next token in `contexts` (...,); entry 0 has no meaning."""

    def ends(self, contexts: np.ndarray) -> np.ndarray:
        """Natural log P(</s>) in each of `contexts`, an array of any shape."""

    def after(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The contexts after `contexts` (...,) followed by `tokens` (...,)."""

    def step(self, context: int, token: int) -> tuple[int, float]:
        """The context after `token`, and natural log P(token | context)."""


class SearchLm(Protocol):
    """The interface of language models for searches: n-grams (lm.automaton) and networks (models.search_language)."""

    @property
    def num_classes(self) -> int:
        """V: the tokens and CTC's blank."""

    @property
    def table(self) -> LmTable | None:
        """All contexts as dense arrays; None if that is impossible."""

    def begin(self) -> Contexts:
        """The contexts for a new search. Only one thread may use them."""


@dataclass(frozen=True, slots=True)
class TokenScorer:
    """The total score: acoustic log probability + lm_weight * LM + insertion_bonus * length, in natural logs.

    LM is the language model's log probability of the labelling and of </s>. Without a model this term is left out.
    Searches, exact scores and confidences share the scorer, so that all use the same score.
    """

    lm: SearchLm | None = None
    lm_weight: float = 0.0
    insertion_bonus: float = 0.0

    def total(self, ctc_log_prob: float, tokens: Sequence[int]) -> float:
        """The total score of `tokens`, whose acoustic log probability is given."""
        score = ctc_log_prob + self.insertion_bonus * len(tokens)
        if self.lm is not None:
            contexts = self.lm.begin()
            context = contexts.start
            for token in tokens:
                context, log_prob = contexts.step(context, token)
                score += self.lm_weight * log_prob
            score += self.lm_weight * float(contexts.ends(np.array(context)))
        return score
