"""What all recurrent layers share: one interface, and the reversal of utterances by their own length.

Legend: N utterances, T frames, D input dim.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_SUFFIXES = ("_l0", "_l0_reverse")  # of the names of each direction's weights


class RecurrentLayer(nn.Module):
    """A recurrent layer (N, T, D) -> (N, T, output_size) that starts from zero states.

    Attributes:
        state_sizes: what a direction carries from frame to frame, by name, with the number of units. "hidden" is also
            its output.
        bidirectional: whether there is a second direction, from an utterance's end to its beginning.
        output_size: units of all directions together.
        has_lstm_kernel: whether models/lstm_kernel.py computes this cell.
    """

    has_lstm_kernel = False

    def __init__(self, state_sizes: Mapping[str, int], bidirectional: bool):
        super().__init__()
        self.state_sizes = dict(state_sizes)
        self.bidirectional = bidirectional
        self.output_size = state_sizes["hidden"] * (2 if bidirectional else 1)

    def forward(self, inputs: Tensor, reverse: Tensor) -> Tensor:
        """`inputs` (N, T, D); `reverse` (N, T) from reversal_index."""
        raise NotImplementedError

    @property
    def weight_owner(self) -> nn.Module:
        """The module whose attributes the weights are, under PyTorch's names."""
        return self

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What the names of each direction's weights end with."""
        return _SUFFIXES if self.bidirectional else _SUFFIXES[:1]

    def weights(self, name: str) -> list[Tensor]:
        """The weights `name`, such as "weight_hh", of each direction."""
        return [getattr(self.weight_owner, name + suffix) for suffix in self.suffixes]


def reversal_index(lens: Tensor, num_frames: int) -> Tensor:
    """Frame order (N, T) that reverses each utterance within its own length and leaves its padding in place."""
    frames = torch.arange(num_frames, device=lens.device)
    last = lens[:, None] - 1
    return torch.where(frames <= last, last - frames, frames)


def take_frames(inputs: Tensor, frames: Tensor) -> Tensor:
    """Frames (N, K) of inputs (N, T, D): (N, K, D)."""
    return inputs.gather(1, frames[:, :, None].expand(-1, -1, inputs.shape[2]))
