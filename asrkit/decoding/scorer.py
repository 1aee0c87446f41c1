"""The score of a labelling besides its CTC log probability: the language model and the insertion bonus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asrkit.lm.automaton import LmAutomaton


@dataclass(frozen=True, slots=True)
class TokenScorer:
    """A labelling's total score is CTC + lm_weight * LM, </s> included, + insertion_bonus * length, natural logs.

    Searches, exact scores and confidences share it, so that all use the same score. Without a language model its part
    is left out.
    """

    lm: LmAutomaton | None = None
    lm_weight: float = 0.0
    insertion_bonus: float = 0.0

    def total(self, ctc_log_prob: float, tokens: Sequence[int]) -> float:
        """The total score of `tokens`, whose CTC log probability is given."""
        score = ctc_log_prob + self.insertion_bonus * len(tokens)
        if self.lm is not None:
            context = self.lm.start
            for token in tokens:
                context, log_prob = self.lm.step(context, token)
                score += self.lm_weight * log_prob
            score += self.lm_weight * float(self.lm.end[context])
        return score
