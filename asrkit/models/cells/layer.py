"""The common part of recurrent layers: their interface, and the reversal of utterances.

Legend: N utterances, T frames, D input dim, H units of a direction's output, K directions (1 or 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

States = tuple[Tensor, ...]  # the states of all directions between two frames, (K, N, size) each; "hidden" is the first
_SUFFIXES = ("_l0", "_l0_reverse")  # ends of the names of each direction's weights


class RecurrentLayer(nn.Module):
    """A recurrent layer (N, T, D) -> (N, T, output_size) that starts from zero states.

    Attributes:
        state_sizes: name of a state -> its number of units per direction. "hidden" is also the output.
        bidirectional: whether there is a second direction, from the end of an utterance to its beginning.
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
        """Compute the outputs (N, T, output_size).

        `inputs` is (N, T, D), and `reverse` (N, T) comes from reversal_index.
        """
        outputs, _ = self.advance(self.directed(inputs, reverse), self.first_states(inputs))
        return self.joined(outputs, reverse)

    def advance(self, inputs: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        """Continue from the given states.

        Inputs and outputs are in the order of each direction. Padding is not treated specially.

        Args:
            inputs: (N, T, D) for each direction.
            states: the states before the first frame.

        Returns:
            The outputs (N, T, H) of each direction, and the states after frame T.

        Raises:
            NotImplementedError: subclasses replace the method.
        """
        raise NotImplementedError

    def first_states(self, inputs: Tensor) -> States:
        """The initial states of every utterance of `inputs` (N, T, D)."""
        return tuple(inputs.new_zeros(len(self.suffixes), len(inputs), size) for size in self.state_sizes.values())

    def directed(self, inputs: Tensor, reverse: Tensor) -> list[Tensor]:
        """The `inputs` (N, T, D) in the order of each direction. `reverse` (N, T) comes from reversal_index."""
        return [inputs, take_frames(inputs, reverse)] if self.bidirectional else [inputs]

    def joined(self, outputs: Sequence[Tensor], reverse: Tensor) -> Tensor:
        """Join the `outputs` of `advance`, (N, T, H) per direction: (N, T, output_size). `reverse` is (N, T)."""
        ahead, *back = outputs
        return torch.cat([ahead, take_frames(back[0], reverse)], dim=2) if back else ahead

    @property
    def weight_owner(self) -> nn.Module:
        """The module that has the weights as attributes, under PyTorch's names."""
        return self

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The ends of the names of each direction's weights."""
        return _SUFFIXES if self.bidirectional else _SUFFIXES[:1]

    def weights(self, name: str) -> list[Tensor]:
        """The weights `name`, such as "weight_hh", of each direction. Their shape is that of PyTorch's layers."""
        return [getattr(self.weight_owner, name + suffix) for suffix in self.suffixes]


def reversal_index(lens: Tensor, num_frames: int) -> Tensor:
    """The order of frames (N, T) that reverses each utterance within its length, and leaves padding in place.

    `lens` is (N,), and `num_frames` is T.
    """
    frames = torch.arange(num_frames, device=lens.device)
    last = lens[:, None] - 1
    return torch.where(frames <= last, last - frames, frames)


def take_frames(inputs: Tensor, frames: Tensor) -> Tensor:
    """The frames with the numbers `frames` (N, K) of `inputs` (N, T, D): (N, K, D)."""
    return inputs.gather(1, frames[:, :, None].expand(-1, -1, inputs.shape[2]))
