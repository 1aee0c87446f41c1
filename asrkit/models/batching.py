"""Batches of utterances of similar length.

Legend: N utterances, T frames, D feature dim, U tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from asrkit.io.tables import Keys, Numbers


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of padded utterances. `feats` and `tokens` are 0 in padding.

    Attributes:
        utt_ids: N utterance ids.
        feats: (N, T, D) float32 features.
        feat_lens: (N,) int64 numbers of frames.
        tokens: (N, U) int64 token ids.
        token_lens: (N,) int64 numbers of tokens.
        frame_labels: (N, T) int64, the phone at the centre of each frame; -1 for none and in padding.
        num_views: how many neighbouring rows are the same utterance with different masks.
    """

    utt_ids: tuple[str, ...]
    feats: Tensor
    feat_lens: Tensor
    tokens: Tensor
    token_lens: Tensor
    frame_labels: Tensor | None = None
    num_views: int = 1


class Batches(Sequence[list[str]]):
    """Batches of utterance ids, stored as an array of numbers."""

    def __init__(self, utt_ids: Keys, order: np.ndarray, batch_size: int) -> None:
        """Cut the order into batches.

        Args:
            utt_ids: all utterance ids.
            order: (n,) rows of `utt_ids`.
            batch_size: utterances per batch.
        """
        self._utt_ids, self._order, self._batch_size = utt_ids, order, batch_size
        self._shuffled = np.arange(-(-len(order) // batch_size))

    def shuffle(self, rng: np.random.Generator) -> None:
        """Shuffle the order of the batches."""
        rng.shuffle(self._shuffled)

    def __len__(self) -> int:
        return len(self._shuffled)

    @overload
    def __getitem__(self, index: int) -> list[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[str]]: ...
    def __getitem__(self, index: int | slice) -> list[str] | list[list[str]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = self._shuffled[index] * self._batch_size  # raises IndexError, which ends an iteration
        return [self._utt_ids[row] for row in self._order[start : start + self._batch_size].tolist()]


def bucket(num_frames: Mapping[str, int], batch_size: int, rng: np.random.Generator | None = None) -> Batches:
    """Group utterances of similar length into batches, so that batches contain little padding.

    Without `rng`, the batches are ordered from short to long. With it, epochs differ: lengths are changed by up to 10 %
    before sorting, and the order of the batches is shuffled.
    """
    numbers = Numbers.of(num_frames)
    lens = numbers.values_by_row.astype(np.float64)
    if rng is not None:
        lens *= rng.uniform(0.9, 1.1, len(lens))
    batches = Batches(numbers.keys_by_row, np.argsort(lens, kind="stable").astype(np.int32), batch_size)
    if rng is not None:
        batches.shuffle(rng)
    return batches


def collate(
    utt_ids: Sequence[str],
    feats: Mapping[str, np.ndarray],
    tokens: Mapping[str, Sequence[int]] | None = None,
    frame_labels: Mapping[str, np.ndarray] | None = None,
) -> Batch:
    """Pad utterances, and join them into one batch.

    Args:
        utt_ids: the utterances of the batch.
        feats: utterance id -> (T, D) features.
        tokens: utterance id -> token ids.
        frame_labels: utterance id -> (T,) labels of the frames.
    """
    matrices = list(map(torch.from_numpy, map(np.ascontiguousarray, map(feats.__getitem__, utt_ids))))
    sequences = [torch.tensor(tokens[utt_id] if tokens else [], dtype=torch.int64) for utt_id in utt_ids]
    labels = None
    if frame_labels is not None:
        rows = [torch.from_numpy(np.asarray(frame_labels[utt_id], np.int64)) for utt_id in utt_ids]
        labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    return Batch(
        tuple(utt_ids),
        torch.nn.utils.rnn.pad_sequence(matrices, batch_first=True),
        torch.tensor([len(matrix) for matrix in matrices]),
        torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True),
        torch.tensor([len(sequence) for sequence in sequences]),
        labels,
    )
