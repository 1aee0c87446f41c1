"""Greedy CTC decoding (best path; Graves 2006): the best class of every frame, without repeats and blanks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forward import total_scores
from asrkit.decoding.scorer import SearchLm, TokenScorer
from asrkit.decoding.search import BeamResult


def greedy_search(log_probs: np.ndarray, blank_penalty: float = 0.0) -> tuple[list[int], float]:
    """Decode one utterance.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank.
        blank_penalty: subtracted from the blank's log probability, in nats. If the probability of a phone is spread
            over two steps, or that of a step over two phones, the blank wins. The penalty compensates for that.

    Returns:
        The token ids, and the log probability of the best path (not of the labelling, which would sum over paths).
    """
    path = _best_path(log_probs, blank_penalty)
    first_of_run = np.append(True, path[1:] != path[:-1])[: len(path)]
    taken = log_probs[np.arange(len(path)), path]
    return path[first_of_run & (path != 0)].tolist(), float(taken.sum(dtype=np.float64))


def _best_path(log_probs: np.ndarray, blank_penalty: float) -> np.ndarray:
    """The best class (T,) of each frame."""
    path = log_probs.argmax(axis=1)
    if blank_penalty:
        token = log_probs[:, 1:].argmax(axis=1) + 1
        ahead = log_probs[:, 0] - log_probs[np.arange(len(token)), token]
        path = np.where(ahead < blank_penalty, token, 0)
    return path


class GreedySearch:
    """greedy_search as a search.Search. It uses no language model."""

    settings: ClassVar[frozenset[str]] = frozenset({"blank_penalty"})
    is_batched: ClassVar[bool] = False
    takes_streams: ClassVar[bool] = True
    sums_paths: ClassVar[bool] = False
    scorer = TokenScorer()
    max_results = 1

    def __init__(self, config: DecodingConfig, lm: SearchLm | None = None) -> None:
        self._blank_penalty = config.blank_penalty

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """As Search.decode: one labelling for `log_probs` (T, V)."""
        tokens, log_prob = greedy_search(log_probs, self._blank_penalty)
        return [BeamResult(tuple(tokens), log_prob, log_prob, 0.0)]

    def total_scores(self, log_probs: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
        """As Search.total_scores: (n,) from `log_probs` (T, V), summed over all paths."""
        return total_scores(log_probs, labelings, self.scorer)

    def emissions(self, log_probs: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """As Search.emissions: the `log_probs` (T, V) themselves."""
        return log_probs

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """As Search.decode_all, for `utterances` (T, V) each."""
        return [self.decode(log_probs) for log_probs in utterances]

    def stream(self, settle_after: int | None = None) -> GreedyStream:
        """As Search.stream. `settle_after` has no influence: every result is final."""
        return GreedyStream(self._blank_penalty)


class GreedyStream:
    """greedy_search of an utterance whose frames come in pieces, as a search.SearchStream."""

    def __init__(self, blank_penalty: float = 0.0) -> None:
        self._blank_penalty = blank_penalty
        self._last_class = 0
        self._ids: list[int] = []  # not committed
        self._log_prob = 0.0

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames `log_probs` (t, V)."""
        if not len(log_probs):
            return
        ids, log_prob = greedy_search(log_probs, self._blank_penalty)
        before = self._last_class
        first, self._last_class = _best_path(log_probs[[0, -1]], self._blank_penalty).tolist()
        self._ids += ids[1:] if first and first == before else ids
        self._log_prob += log_prob

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """As SearchStream.best. `num_best` has no influence."""
        return [BeamResult(tuple(self._ids), self._log_prob, self._log_prob, 0.0)]

    finish = best

    def commit(self) -> tuple[int, ...]:
        """As SearchStream.commit: all tokens so far."""
        ids, self._ids = tuple(self._ids), []
        return ids

    def use_up(self, num_frames: int) -> None:
        """As SearchStream.use_up. A path of CTC has a frame for each phone, so nothing changes."""
