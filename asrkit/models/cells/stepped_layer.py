"""Recurrent layers written as a loop over frames: what they share.

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
    """A recurrent layer (N, T, D) -> (N, T, K * H) whose cell a subclass writes as a loop over frames.

    The product of the input is one for all frames. Both directions go through the loop together, the backward one over
    each utterance reversed by its own length, so that padding never reaches a valid frame.
    """

    def __init__(self, state_sizes: Mapping[str, int], config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]):
        """`shapes`: those of one direction's weights by name, "weight_ih" (G, D) and "bias_ih" (G,) among them.

        The weights are then named as nn.LSTM's are, such as `weight_ih_l0` and `weight_ih_l0_reverse`.
        """
        super().__init__(state_sizes, config.bidirectional)
        self.hidden_size = config.hidden_size
        for suffix in self.suffixes:
            for name, shape in shapes.items():
                self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All weights uniform in +-1/sqrt(H), as PyTorch does it."""
        for weights in self.parameters():
            nn.init.uniform_(weights, -1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def advance(self, inputs: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        frames = torch.stack([direction.transpose(0, 1) for direction in inputs])  # (K, T, N, D)
        input_sums = torch.baddbmm(self.vectors("bias_ih"), frames.flatten(1, 2), self.transposed("weight_ih"))
        outputs, states = self.run(input_sums.unflatten(1, frames.shape[1:3]).unbind(1), states)
        return torch.stack(outputs, dim=2).unbind(), states

    def run(self, input_sums: Sequence[Tensor], states: States) -> tuple[list[Tensor], States]:
        """What the inputs add to each frame's sums, T times (K, N, G), to the outputs, T times (K, N, H).

        `states` are those before the first frame; with the outputs come those after the last.
        """
        raise NotImplementedError

    def vectors(self, name: str) -> Tensor:
        """The vector `name` of each direction: (K, 1, size)."""
        return torch.stack(self.weights(name))[:, None]

    def transposed(self, name: str) -> Tensor:
        """The matrix `name` of each direction, transposed: (K, columns, rows)."""
        return torch.stack(self.weights(name)).transpose(1, 2)
