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
    """Padded utterances. Padding of `feats` and `tokens` is 0; the lengths tell what is valid."""

    utt_ids: tuple[str, ...]
    feats: Tensor  # (N, T, D) float32
    feat_lens: Tensor  # (N,) int64
    tokens: Tensor  # (N, U) int64
    token_lens: Tensor  # (N,) int64
    frame_labels: Tensor | None = None  # (N, T) int64: the phone at each frame's centre, -1 for none and for padding
    num_views: int = 1  # neighbouring rows that are one utterance, differently masked


class Batches(Sequence[list[str]]):
    """Utterance ids in batches, as arrays of numbers: `order` (n,) rows of `utt_ids`, cut every `batch_size`."""

    def __init__(self, utt_ids: Keys, order: np.ndarray, batch_size: int) -> None:
        self._utt_ids, self._order, self._batch_size = utt_ids, order, batch_size
        self._shuffled = np.arange(-(-len(order) // batch_size))

    def shuffle(self, rng: np.random.Generator) -> None:
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
        start = self._shuffled[index] * self._batch_size  # raises IndexError, which ends iteration
        return [self._utt_ids[row] for row in self._order[start : start + self._batch_size].tolist()]


def bucket(num_frames: Mapping[str, int], batch_size: int, rng: np.random.Generator | None = None) -> Batches:
    """Group utterance ids into batches of similar length, so that little of a batch is padding.

    Without `rng` the batches go from short to long. With it, lengths are jittered by up to 10 % before sorting and
    the order of batches is shuffled, so that epochs differ.
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
    """Pad the utterances' features (T, D), and their token ids and frame labels (T,) when given, into one batch."""
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
