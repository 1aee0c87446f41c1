"""What the searches over decoders share: they search many utterances at once.

Legend: N utterances, T steps, C numbers a step as they are stored, V classes, 0 the blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np

from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.search import BeamResult
from asrkit.errors import ConfigError, ModelError
from asrkit.parallel import map_in_threads

BATCH_SIZE = 32  # utterances that are searched at once


class BatchedSearch:
    """A `search.Search` of stored outputs (T, C) of a model, many utterances at once."""

    settings: ClassVar[frozenset[str]] = frozenset()
    is_batched: ClassVar[bool] = True
    sums_paths: ClassVar[bool] = False
    takes_streams: ClassVar[bool] = False
    max_results = 1
    scorer = TokenScorer()

    def search_some(self, utterances: Sequence[np.ndarray], num_best: int) -> list[list[BeamResult]]:
        """The best `num_best` labellings of each of the `utterances` (T, C), of which the shortest comes first.

        Subclasses replace it. Raises NotImplementedError; theirs raise ModelError as `num_ctc_columns`.
        """
        raise NotImplementedError

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """Like `Search.decode`. `log_probs` (T, C) is the stored output of the model for an utterance.

        Raises ModelError as `decode_all`.
        """
        return self.decode_all([log_probs], num_best=num_best)[0]

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """Like `Search.decode_all`. `utterances` are stored outputs of the model, each (T, C).

        Raises:
            ConfigError: `num_threads` is less than 1.
            ModelError: an utterance has no step, another number of columns, or numbers that are not finite.
        """
        if num_threads < 1:
            raise ConfigError(f"num_threads must be at least 1, found {num_threads}")
        order = sorted(range(len(utterances)), key=lambda index: len(utterances[index]))
        batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]

        def search(members: list[int]) -> list[list[BeamResult]]:
            return self.search_some([utterances[index] for index in members], num_best)

        results: list[list[BeamResult]] = [[] for _ in utterances]
        for members, found in zip(batches, map_in_threads(search, batches, num_threads), strict=True):
            for index, result in zip(members, found, strict=True):
                results[index] = result
        return results


class HasSizes(Protocol):
    """A decoder with an input of `step_size` numbers a step, and `num_classes` classes."""

    step_size: int
    num_classes: int


def num_ctc_columns(stored: np.ndarray, decoder: HasSizes) -> int:
    """The number of columns of `stored` (T, C) that are CTC's: V or none. The others are the decoder's.

    Raises ModelError for another number of columns, no steps, and numbers that are not finite.
    """
    found = stored.shape[-1] - decoder.step_size
    if stored.ndim != 2 or not len(stored) or found not in (0, decoder.num_classes):
        raise ModelError(f"stored outputs of shape {stored.shape}; expected steps of {decoder.step_size} numbers")
    if not np.isfinite(stored).all():
        raise ModelError("stored outputs with numbers that are not finite")
    return found


def emissions_of(seen: np.ndarray) -> np.ndarray:
    """Log-probabilities (T, V) float32 from the probability `seen` (T, V) of each phone at each step.

    The blank gets the rest. `seen` is changed.
    """
    seen[:, 0] = 0.0
    seen = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1.0 - 1e-6) * (1 - 1e-6)
    seen[:, 0] = 1 - seen.sum(axis=1)
    found: np.ndarray = np.log(np.maximum(seen, 1e-12)).astype(np.float32)
    return found
