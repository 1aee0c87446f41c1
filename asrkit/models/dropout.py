"""Dropout with fast random numbers on the CPU. Each thread can use its own generator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

_own = threading.local()


@contextmanager
def dropout_from(generator: torch.Generator) -> Iterator[None]:
    """Let Dropout in this thread draw from `generator`, a CPU generator, during a `with` block."""
    before, _own.generator = getattr(_own, "generator", None), generator
    try:
        yield
    finally:
        _own.generator = before


def same_draws() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Two contexts for the `context_fn` of torch.utils.checkpoint. Dropout on the CPU draws the same masks in both.

    The first context must be entered immediately.
    """
    generator = getattr(_own, "generator", None) or torch.default_generator
    again = torch.Generator()
    again.set_state(generator.get_state())
    return nullcontext(), dropout_from(again)


class Dropout(nn.Dropout):
    """nn.Dropout whose masks need only 16 random bits per element on the CPU, where it is about four times as fast.

    The probability is rounded to a multiple of 2**-16, and the elements that are kept are scaled accordingly.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop elements of `inputs` in training. Shapes of any kind; the result has the same shape."""
        threshold = round(self.p * 2**16)
        if not self.training or inputs.is_cuda or threshold == 0 or threshold == 2**16:
            return super().forward(inputs)
        bits = torch.empty((inputs.numel() + 3) // 4, dtype=torch.int64)
        bits.random_(-(2**63), None, generator=getattr(_own, "generator", None))
        kept = bits.view(torch.int16)[: inputs.numel()].view(inputs.shape) >= threshold - 2**15
        return inputs * kept.to(inputs.dtype).mul_(2**16 / (2**16 - threshold))


def uniform_like(inputs: Tensor) -> Tensor:
    """Random numbers in [0, 1) with the shape of `inputs`, from the generator of Dropout."""
    generator = None if inputs.is_cuda else getattr(_own, "generator", None)
    return torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype, device=inputs.device)
