"""Greedy CTC decoding (best path; Graves 2006): the best class of every frame, repeats joined, blanks dropped."""

from __future__ import annotations

import numpy as np

from asrkit.decoding.prefix_beam import BeamResult


def greedy_search(log_probs: np.ndarray) -> tuple[list[int], float]:
    """Decode one utterance.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank.

    Returns:
        The token ids, and the log probability of the best path (not of the labelling, which sums over paths).
    """
    path = log_probs.argmax(axis=1)
    first_of_run = np.append(True, path[1:] != path[:-1])[: len(path)]
    best = log_probs.max(axis=1) if len(path) else np.zeros(0)
    return path[first_of_run & (path != 0)].tolist(), float(best.sum(dtype=np.float64))


class GreedyStream:
    """greedy_search of an utterance whose frames come in pieces: used as prefix_beam.StreamingSearch."""

    def __init__(self) -> None:
        self._last_class = 0
        self._ids: list[int] = []  # not committed
        self._log_prob = 0.0

    def advance(self, log_probs: np.ndarray) -> None:
        """Take the next frames (t, V)."""
        if not len(log_probs):
            return
        ids, log_prob = greedy_search(log_probs)
        first = int(log_probs[0].argmax())
        self._ids += ids[1:] if first and first == self._last_class else ids
        self._last_class = int(log_probs[-1].argmax())
        self._log_prob += log_prob

    def best(self, num_best: int = 1) -> list[BeamResult]:
        """What was found so far: one result, whose tokens are those not committed."""
        return [BeamResult(tuple(self._ids), self._log_prob, self._log_prob, 0.0)]

    finish = best

    def commit(self) -> tuple[int, ...]:
        ids, self._ids = tuple(self._ids), []
        return ids
