"""What hand-written recurrent layers share: reversal by length, the input's product, and the loop over frames.

Legend: N utterances, T frames, D input dim, G inputs of a cell, H hidden units a direction, K directions (1 or 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def reversal_index(lens: Tensor, num_frames: int) -> Tensor:
    """Frame order (N, T) that reverses each utterance within its own length and leaves its padding in place."""
    frames = torch.arange(num_frames, device=lens.device)
    last = lens[:, None] - 1
    return torch.where(frames <= last, last - frames, frames)


def take_frames(inputs: Tensor, frames: Tensor) -> Tensor:
    """Frames (N, K) of inputs (N, T, D): (N, K, D)."""
    return inputs.gather(1, frames[:, :, None].expand(-1, -1, inputs.shape[2]))


class SteppedLayer(nn.Module):
    """A recurrent layer (N, T, D) -> (N, T, K * H) whose cell a subclass writes as a loop over frames.

    The product of the input is one for all frames; both directions go through the loop together, the backward one
    over each utterance reversed by its own length, so padding never reaches a valid frame. Weights are named as in
    nn.LSTM: `weight_ih_l0` (G, D), `bias_ih_l0` (G,) and those of `shapes`, with `_reverse` for the other direction.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bidirectional: bool, num_gates: int, shapes: dict[str, tuple[int, ...]]
    ):
        super().__init__()
        self.hidden_size = hidden_size
        self.suffixes = ("_l0", "_l0_reverse") if bidirectional else ("_l0",)
        self.output_size = hidden_size * len(self.suffixes)
        gates = num_gates * hidden_size
        for suffix in self.suffixes:
            for name, shape in {"weight_ih": (gates, input_size), "bias_ih": (gates,), **shapes}.items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All weights uniform in +-1/sqrt(H), as PyTorch does it."""
        for weights in self.parameters():
            nn.init.uniform_(weights, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def forward(self, inputs: Tensor, reverse: Tensor) -> Tensor:
        """`inputs` (N, T, D); `reverse` (N, T) from reversal_index."""
        ways = [inputs, take_frames(inputs, reverse)][: len(self.suffixes)]
        frames = torch.stack([way.transpose(0, 1) for way in ways])  # (K, T, N, D)
        drive = torch.baddbmm(self.rows("bias_ih"), frames.flatten(1, 2), self.columns("weight_ih"))
        outputs = torch.stack(self.run(drive.unflatten(1, frames.shape[1:3]).unbind(1)), dim=2)  # (K, N, T, H)
        if len(ways) == 1:
            return outputs[0]
        return torch.cat([outputs[0], take_frames(outputs[1], reverse)], dim=2)

    def run(self, drive: Sequence[Tensor]) -> list[Tensor]:
        """The inputs' share of each frame's sums, T times (K, N, G), to the layer's outputs, T times (K, N, H)."""
        raise NotImplementedError

    def rows(self, name: str) -> Tensor:
        """The vector `name` of all directions, (K, 1, size)."""
        return torch.stack([getattr(self, name + suffix) for suffix in self.suffixes])[:, None]

    def columns(self, name: str) -> Tensor:
        """The matrix `name` of all directions, transposed: (K, columns, rows)."""
        return torch.stack([getattr(self, name + suffix) for suffix in self.suffixes]).transpose(1, 2)
