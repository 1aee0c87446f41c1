"""Batches of utterances of similar length.

Legend: N utterances, T frames, D feature dim, U tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded utterances. Padding of `feats` and `tokens` is 0; the lengths tell what is valid."""

    utt_ids: tuple[str, ...]
    feats: Tensor  # (N, T, D) float32
    feat_lens: Tensor  # (N,) int64
    tokens: Tensor  # (N, U) int64
    token_lens: Tensor  # (N,) int64
    frame_labels: Tensor | None = None  # (N, T) int64: the phone at each frame's centre, -1 for none and for padding


def bucket(num_frames: Mapping[str, int], batch_size: int, rng: np.random.Generator | None = None) -> list[list[str]]:
    """Group utterance ids into batches of similar length, so that little of a batch is padding.

    Without `rng` the batches go from short to long. With it, lengths are jittered by up to 10 % before sorting and
    the order of batches is shuffled, so that epochs differ.
    """
    utt_ids = list(num_frames)
    lens = np.array([num_frames[utt_id] for utt_id in utt_ids], dtype=np.float64)
    if rng is not None:
        lens *= rng.uniform(0.9, 1.1, len(lens))
    order = np.argsort(lens, kind="stable")
    batches = [[utt_ids[i] for i in order[start : start + batch_size]] for start in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches


def collate(
    utt_ids: Sequence[str],
    feats: Mapping[str, np.ndarray],
    tokens: Mapping[str, Sequence[int]] | None = None,
    frame_labels: Mapping[str, np.ndarray] | None = None,
) -> Batch:
    """Pad the utterances' features (T, D), and their token ids and frame labels (T,) when given, into one batch."""
    matrices = [torch.from_numpy(np.ascontiguousarray(feats[utt_id])) for utt_id in utt_ids]
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


def iterate(
    batches: Sequence[Sequence[str]],
    feats: Mapping[str, np.ndarray],
    tokens: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[Batch]:
    """Collate one batch after the other; only one is in memory at a time."""
    for utt_ids in batches:
        yield collate(utt_ids, feats, tokens)
