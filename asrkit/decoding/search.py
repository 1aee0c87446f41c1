"""The interface of searches. decoding/methods.py makes the one that a DecodingConfig names.

Legend: T frames, V classes: class 0 is the blank, class i + 1 is the phone with token id i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from asrkit.decoding.scorer import TokenScorer


@dataclass(frozen=True, slots=True)
class BeamResult:
    """One labelling: `score` = ctc_log_prob + lm_weight * lm_log_prob + insertion_bonus * len(tokens), natural logs.

    For an attention decoder, `ctc_log_prob` is the decoder's log probability, in a joint model weighted with CTC's.

    `ctc_log_prob` sums over the paths that stayed in the beam; greedy search has one path. `lm_log_prob` includes
    </s>; 0 without a model.
    """

    tokens: tuple[int, ...]
    score: float
    ctc_log_prob: float
    lm_log_prob: float


class SearchStream(Protocol):
    """The search of one utterance whose frames come in pieces; the result does not depend on how they are cut."""

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames (t, V). Raises ModelError as Search.decode."""

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """The best labellings of the frames so far, best first. Their `tokens` do not include committed ones.

        The scores are of the whole labelling, without </s>, because it may continue.
        """

    def finish(self, num_best: int = 1) -> list[BeamResult]:
        """As best, for an utterance that ends here: with </s>. The search may still continue."""

    def commit(self) -> tuple[int, ...]:
        """Return the tokens with which all remaining labellings begin, and which cannot change any more.

        Each is returned once; later results begin after them.
        """


class Search(Protocol):
    """A search with its settings, for any number of utterances and threads."""

    settings: ClassVar[frozenset[str]]  # of a DecodingConfig: those that this search looks at
    is_batched: ClassVar[bool]  # it searches many utterances at once faster than one after another
    sums_paths: ClassVar[bool]  # it looks for the labelling with the highest total score, summed over all its paths

    @property
    def scorer(self) -> TokenScorer:
        """The part of the score besides CTC."""

    @property
    def max_results(self) -> int:
        """The largest number of labellings that it can find."""

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """The best labellings of one utterance, best first: at most `num_best` and max_results.

        `log_probs` (T, V) are natural-log class probabilities. Raises ModelError for log_probs that are not (T, V) or
        have a frame with NaN or without any possible class, and for a language model with another number of tokens.
        """

    def total_scores(self, log_probs: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """(n,) what the search maximises, exactly, for labellings of one utterance; -inf for those that cannot be."""

    def emissions(self, log_probs: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """(T, V) log-probabilities of an utterance, for the times and confidences of the phones `tokens`."""

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """The result of decode for each utterance (T, V), in order. The number of threads does not change results.

        Raises ConfigError for num_threads below 1, ModelError as decode: it names the first bad utterance.
        """

    def stream(self, settle_after: int | None = None) -> SearchStream:
        """The search of one utterance whose frames come in pieces.

        With `settle_after` (frames) results settle: after twice as many frames, alternatives that are older than that
        are dropped now and then. Memory then does not grow if `commit` is called now and then.
        """
