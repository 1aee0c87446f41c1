"""Dropout whose random numbers are cheap on the CPU, and can be another generator's in each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

_own = threading.local()


@contextmanager
def dropout_from(generator: torch.Generator) -> Iterator[None]:
    """Within the block, Dropout in this thread draws from `generator`, of the CPU, in place of torch's default."""
    before, _own.generator = getattr(_own, "generator", None), generator
    try:
        yield
    finally:
        _own.generator = before


def same_draws() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Two contexts: in the second, on the CPU, Dropout draws again what it draws in the first, if that is entered now.

    They are what torch.utils.checkpoint takes as `context_fn`.
    """
    generator = getattr(_own, "generator", None) or torch.default_generator
    again = torch.Generator()
    again.set_state(generator.get_state())
    return nullcontext(), dropout_from(again)


class Dropout(nn.Dropout):
    """nn.Dropout, whose masks on the CPU take 16 random bits an element: about four times faster there.

    The probability is rounded to a multiple of 2**-16, and what is kept is scaled accordingly.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        threshold = round(self.p * 2**16)
        if not self.training or inputs.is_cuda or threshold == 0 or threshold == 2**16:
            return super().forward(inputs)
        bits = torch.empty((inputs.numel() + 3) // 4, dtype=torch.int64)
        bits.random_(-(2**63), None, generator=getattr(_own, "generator", None))
        kept = bits.view(torch.int16)[: inputs.numel()].view(inputs.shape) >= threshold - 2**15
        return inputs * kept.to(inputs.dtype).mul_(2**16 / (2**16 - threshold))


def uniform_like(inputs: Tensor) -> Tensor:
    """Random numbers from 0 to below 1 in the shape of `inputs`, from the generator that Dropout draws from."""
    generator = None if inputs.is_cuda else getattr(_own, "generator", None)
    return torch.rand(inputs.shape, generator=generator, dtype=inputs.dtype, device=inputs.device)
