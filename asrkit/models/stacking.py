"""Frame stacking and skipping: from frames to the steps of the network.

Legend: N utterances, T frames, D feature dim, T' = ceil(T / skip) steps.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

Count = TypeVar("Count", int, Tensor)


def num_steps(num_frames: Count, skip: int) -> Count:
    """The number of steps of `num_frames` frames: ceil(num_frames / skip)."""
    return (num_frames + skip - 1) // skip


def stack_frames(
    feats: Tensor, lens: Tensor, stack: int, skip: int, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Join `stack` neighbouring frames into one step, every `skip` frames (Sak et al. 2015).

    Beyond the ends of an utterance its edge frame is repeated. Values in padding have no influence.

    Args:
        feats: (N, T, D).
        lens: (N,) numbers of frames.
        stack, skip: frames per step, and frames from one step to the next.
        offsets: (N,) frames by which the first step begins earlier; varying them is an augmentation.

    Returns:
        (N, T', stack * D), and the numbers of steps (N,).
    """
    step_lens = num_steps(lens, skip)
    num_utts, num_frames, dim = feats.shape
    steps = torch.arange(num_steps(num_frames, skip), device=feats.device) * skip
    frames = (steps[:, None] + torch.arange(stack, device=feats.device)).reshape(1, -1)
    stacked = feats.gather(1, _within(frames, lens, offsets)[:, :, None].expand(-1, -1, dim))
    return stacked.reshape(num_utts, len(steps), stack * dim), step_lens


def step_frames(lens: Tensor, num_frames: int, stack: int, skip: int, offsets: Tensor | None = None) -> Tensor:
    """The frame in the middle of each step of stack_frames, (N, T'). For an even `stack`, the earlier one of two.

    Steps in padding get the last frame of the utterance.

    Args:
        lens: (N,) numbers of frames.
        num_frames: T of the batch.
        stack, skip, offsets: as for stack_frames, `offsets` (N,).
    """
    steps = torch.arange(num_steps(num_frames, skip), device=lens.device) * skip
    return _within(steps[None] + (stack - 1) // 2, lens, offsets)


def _within(frames: Tensor, lens: Tensor, offsets: Tensor | None) -> Tensor:
    """Shift frame numbers (1, K) by the offset of each utterance, and clamp them to its frames: (N, K)."""
    if offsets is not None:
        frames = frames - offsets[:, None]
    return torch.minimum(frames, lens[:, None] - 1).clamp(min=0)
