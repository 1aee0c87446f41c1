"""The common part of recurrent layers that are written as a loop over frames.

Legend: N utterances, T frames, D input dim, G sums of a cell's inputs, H hidden units per direction, K directions (1 or
2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from asrkit.models.cells.layer import RecurrentLayer, States
from asrkit.models.config import ModelConfig


class SteppedLayer(RecurrentLayer):
    """A recurrent layer (N, T, D) -> (N, T, K * H). A subclass writes its cell as a loop over frames.

    One matrix product serves the inputs of all frames. Both directions run together in one loop. The backward direction
    reads each utterance reversed within its length, so that padding never reaches a valid frame.
    """

    def __init__(self, state_sizes: Mapping[str, int], config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]):
        """Create the weights of each direction, named as in nn.LSTM: `weight_ih_l0`, `weight_ih_l0_reverse`...

        `shapes`: name -> shape of the weights of one direction. "weight_ih" (G, D) and "bias_ih" (G,) must be among
        them.
        """
        super().__init__(state_sizes, config.bidirectional)
        self.hidden_size = config.hidden_size
        for suffix in self.suffixes:
            for name, shape in shapes.items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights uniformly from +-1/sqrt(H), as PyTorch does."""
        for weights in self.parameters():
            nn.init.uniform_(weights, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def advance(self, inputs: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        frames = torch.stack([direction.transpose(0, 1) for direction in inputs])  # (K, T, N, D)
        input_sums = torch.baddbmm(self.vectors("bias_ih"), frames.flatten(1, 2), self.transposed("weight_ih"))
        outputs, states = self.run(input_sums.unflatten(1, frames.shape[1:3]).unbind(1), states)
        return torch.stack(outputs, dim=2).unbind(), states

    def run(self, input_sums: Sequence[Tensor], states: States) -> tuple[list[Tensor], States]:
        """The loop over frames.

        Args:
            input_sums: T tensors (K, N, G), the contribution of the inputs to the sums of each frame.
            states: the states before the first frame.

        Returns:
            The outputs, T tensors (K, N, H), and the states after the last frame.

        Raises:
            NotImplementedError: subclasses replace the method.
        """
        raise NotImplementedError

    def vectors(self, name: str) -> Tensor:
        """The vector `name` of each direction: (K, 1, size)."""
        return torch.stack(self.weights(name))[:, None]

    def transposed(self, name: str) -> Tensor:
        """The matrix `name` of each direction, transposed: (K, columns, rows)."""
        return torch.stack(self.weights(name)).transpose(1, 2)
