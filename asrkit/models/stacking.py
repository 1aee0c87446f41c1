"""Frame stacking and skipping: what makes the steps of the recurrent layers out of frames.

Legend: N utterances, T frames, D feature dim, T' = ceil(T / skip) steps.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

Count = TypeVar("Count", int, Tensor)


def num_steps(num_frames: Count, skip: int) -> Count:
    """Steps that `num_frames` frames give: ceil(num_frames / skip)."""
    return (num_frames + skip - 1) // skip


def stack_frames(
    feats: Tensor, lens: Tensor, stack: int, skip: int, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Join `stack` neighbouring frames into one step, every `skip` frames (Sak et al. 2015).

    Frames past either end of an utterance repeat its edge frame, whatever the padding holds. `offsets` (N,) delay
    the start of the first step by so many frames, which varies the sampling phase as an augmentation.

    Returns: (N, T', stack * D) and the numbers of steps (N,).
    """
    step_lens = num_steps(lens, skip)
    num_utts, num_frames, dim = feats.shape
    steps = torch.arange(num_steps(num_frames, skip), device=feats.device) * skip
    frames = (steps[:, None] + torch.arange(stack, device=feats.device)).reshape(1, -1)
    stacked = feats.gather(1, _within(frames, lens, offsets)[:, :, None].expand(-1, -1, dim))
    return stacked.reshape(num_utts, len(steps), stack * dim), step_lens


def step_frames(lens: Tensor, num_frames: int, stack: int, skip: int, offsets: Tensor | None = None) -> Tensor:
    """The frame (N, T') in the middle of each of stack_frames' steps; of an even `stack`, the earlier of the two.

    `num_frames`: T of the batch. Steps of the padding get the utterance's last frame.
    """
    steps = torch.arange(num_steps(num_frames, skip), device=lens.device) * skip
    return _within(steps[None] + (stack - 1) // 2, lens, offsets)


def _within(frames: Tensor, lens: Tensor, offsets: Tensor | None) -> Tensor:
    """Frame numbers (1, K), delayed by each utterance's offset and clamped to its own frames: (N, K)."""
    if offsets is not None:
        frames = frames - offsets[:, None]
    return torch.minimum(frames, lens[:, None] - 1).clamp(min=0)
