"""The loss of the transducer as a function that torch differentiates. transducer_lattice.py computes it.

Legend: N utterances, U tokens of the longest, V classes, R nodes of all utterances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from asrkit.models.transducer_lattice import Targets, transducer_losses


def transducer_loss(logits: Tensor, num_steps: Tensor, tokens: Tensor, num_tokens: Tensor) -> Tensor:
    """-log p(tokens | audio) of each utterance (N,), in nats.

    It can be differentiated once, in `logits`. It is computed on the CPU, even for `logits` on a GPU.

    Args:
        logits: (R, V) unnormalised log-probabilities, float32 or float64: for each utterance its T (U + 1) nodes, in
            the order of steps and then of tokens.
        num_steps: (N,) int64 numbers of steps.
        tokens: (N, U) int64; values in padding have no influence.
        num_tokens: (N,) int64 numbers of tokens.
    """
    rows = [row[:length] for row, length in zip(tokens.cpu(), num_tokens.tolist(), strict=True)]
    targets = Targets(*(part.cpu().numpy() for part in (num_steps, torch.cat(rows), num_tokens)))
    losses: Tensor = _Loss.apply(logits, targets)
    return losses


class _Loss(torch.autograd.Function):
    """Computes the gradients together with the losses, because both share most of the work."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Targets) -> Tensor:
        array = logits.detach().cpu().contiguous().numpy()
        grads = np.empty_like(array) if ctx.needs_input_grad[0] else None
        losses = transducer_losses(array, targets, grads)
        if grads is not None:
            ctx.save_for_backward(torch.from_numpy(grads).to(logits.device))
            ctx.num_nodes = torch.from_numpy(targets.num_steps * (targets.num_tokens + 1))
        return torch.from_numpy(losses).to(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_losses: Tensor) -> tuple[Tensor, None]:
        (grads,) = ctx.saved_tensors
        return grads * grad_losses.repeat_interleave(ctx.num_nodes.to(grads.device))[:, None], None
