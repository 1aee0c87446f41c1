"""The common part of the searches over decoders: they search many utterances at once.

Legend: N utterances, T steps, C numbers per step of the stored outputs, V classes (class 0 is the blank).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Protocol

import numpy as np

from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.search import BeamResult
from asrkit.errors import ConfigError, ModelError
from asrkit.parallel import map_in_threads

BATCH_SIZE = 32  # utterances that are searched at once


class BatchedSearch:
    """A search.Search over decoders. Its utterances are stored outputs (T, C)."""

    settings: ClassVar[frozenset[str]] = frozenset()
    is_batched: ClassVar[bool] = True
    sums_paths: ClassVar[bool] = False
    takes_streams: ClassVar[bool] = False
    max_results = 1
    scorer = TokenScorer()

    def search_some(self, utterances: Sequence[np.ndarray], num_best: int) -> list[list[BeamResult]]:
        """The best labellings of each of the `utterances` (T, C), which are sorted by length, the shortest first.

        Raises ModelError as num_ctc_columns. Raises NotImplementedError here; subclasses replace it.
        """
        raise NotImplementedError

    def decode(self, log_probs: np.ndarray, num_best: int = 1) -> list[BeamResult]:
        """As Search.decode. `log_probs` are stored outputs (T, C). Raises ModelError as num_ctc_columns."""
        return self.decode_all([log_probs], num_best=num_best)[0]

    def decode_all(
        self, utterances: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1
    ) -> list[list[BeamResult]]:
        """As Search.decode_all, for stored outputs.

        Each of the `utterances` is (T, C). Raises ConfigError for num_threads below 1, ModelError as num_ctc_columns.
        """
        if num_threads < 1:
            raise ConfigError(f"num_threads must be at least 1, found {num_threads}")
        order = sorted(range(len(utterances)), key=lambda index: len(utterances[index]))
        batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
        search = partial(self.search_some, num_best=num_best)
        inputs = ([utterances[index] for index in members] for members in batches)
        results: list[list[BeamResult]] = [[] for _ in utterances]
        for members, found in zip(batches, map_in_threads(search, inputs, num_threads, chunk_size=1), strict=True):
            for index, result in zip(members, found, strict=True):
                results[index] = result
        return results


class HasSizes(Protocol):
    """The interface of decoders with sizes.

    Attributes:
        step_size: numbers of a step that belong to the decoder.
        num_classes: V.
    """

    step_size: int
    num_classes: int


def num_ctc_columns(stored: np.ndarray, decoder: HasSizes) -> int:
    """The number of columns of `stored` (T, C) that are CTC's: V, or 0. The other columns are the decoder's.

    Raises ModelError for another number of columns, for no steps, and for numbers that are not finite.
    """
    found = stored.shape[-1] - decoder.step_size
    if stored.ndim != 2 or not len(stored) or found not in (0, decoder.num_classes):
        raise ModelError(f"stored outputs of shape {stored.shape}; expected steps of {decoder.step_size} numbers")
    if not np.isfinite(stored).all():
        raise ModelError("stored outputs with numbers that are not finite")
    return found


def emissions_of(seen: np.ndarray) -> np.ndarray:
    """Natural-log probabilities (T, V) float32 from `seen` (T, V), the probability of each phone at each step.

    The blank gets the rest of the probability. `seen` is overwritten.
    """
    seen[:, 0] = 0.0
    seen = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1.0 - 1e-6) * (1 - 1e-6)
    seen[:, 0] = 1 - seen.sum(axis=1)
    found: np.ndarray = np.log(np.maximum(seen, 1e-12)).astype(np.float32)
    return found
