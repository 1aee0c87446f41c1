"""The interface of searches. decoding/methods.py makes the one that a DecodingConfig names.

Legend: T frames, V classes: class 0 is the blank, class i + 1 is the phone with token id i + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from asrkit.decoding.scorer import TokenScorer

UTTS_A_CHUNK = 16  # utterances that a worker of a cluster searches at a time


@dataclass(frozen=True, slots=True)
class BeamResult:
    """One labelling with its scores in natural logs.

    `score` = ctc_log_prob + lm_weight * lm_log_prob + insertion_bonus * len(tokens).

    `ctc_log_prob` sums over the paths that stayed in the beam; greedy search has one path. With another decoder it is
    the decoder's log probability, which a joint model combines with CTC's. `lm_log_prob` includes </s>; it is 0 without
    a language model.
    """

    tokens: tuple[int, ...]
    score: float
    ctc_log_prob: float
    lm_log_prob: float


class SearchStream(Protocol):
    """The interface of the search of one utterance whose frames come in pieces. The cuts do not change the result."""

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames `log_probs` (t, V). Raises ModelError as Search.decode."""

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """The best labellings of the frames so far, best first. Their `tokens` do not include committed ones.

        The scores are those of the whole labelling, without </s>, because it may continue.
        """

    def finish(self, num_best: int = 1) -> list[BeamResult]:
        """As `best`, for an utterance that ends here: with </s>. The search may still continue."""

    def commit(self) -> tuple[int, ...]:
        """Return the tokens with which all remaining labellings begin, and which cannot change any more.

        Each token is returned once. Later results begin after it.
        """

    def use_up(self, num_frames: int) -> None:
        """Note that `num_frames` frames are over without a token, so that later tokens cannot be placed there.

        Only transducers need this, because they can emit several tokens in one frame.
        """


class Search(Protocol):
    """The interface of searches with their settings, for any number of utterances and threads."""

    settings: ClassVar[frozenset[str]]  # the settings of DecodingConfig that this search uses
    is_batched: ClassVar[bool]  # whether many utterances at once are faster than one after another
    takes_streams: ClassVar[bool]  # whether it works on frames as they come; otherwise it needs the whole utterance
    sums_paths: ClassVar[bool]  # whether the score of a labelling sums over its paths

    @property
    def scorer(self) -> TokenScorer:
        """The part of the score besides the acoustic log probability."""

    @property
    def max_results(self) -> int:
        """The largest number of labellings that the search can find."""

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """The best labellings of one utterance, best first.

        Args:
            log_probs: (T, V) natural-log class probabilities.
            num_best: the largest number of results; there are at most max_results.

        Raises:
            ModelError: log_probs are not (T, V); a frame holds NaN or has no possible class; or the language model has
                another number of tokens.
        """

    def total_scores(self, log_probs: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """The exact scores (n,) that the search maximises, for labellings of one utterance; -inf for impossible ones.

        `log_probs` (T, V) are natural-log class probabilities.
        """

    def emissions(self, log_probs: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """Natural-log probabilities (T, V) that give the times and confidences of the phones `tokens`.

        `log_probs` (T, V) are the input of the search.
        """

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """The result of `decode` for each of the `utterances` (T, V), in order.

        Results do not depend on the number of threads.

        Raises ConfigError for num_threads below 1, ModelError as `decode`: it names the first bad utterance.
        """

    def stream(self, settle_after: int | None = None) -> SearchStream:
        """The search of one utterance whose frames come in pieces. Raises ConfigError if the search takes no streams.

        With `settle_after` (frames) results settle: after twice as many frames, alternatives that are older than that
        are dropped now and then. Memory then does not grow if `commit` is called now and then.
        """
