"""Recurrent layers whose cells PyTorch computes.

Legend: N utterances, T frames, F frames of all utterances together, D input dim, H units of a direction's output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from asrkit.models.cells.layer import RecurrentLayer, States
from asrkit.models.config import ModelConfig


class TorchLayer(RecurrentLayer):
    """A layer with one of PyTorch's cells. `rnn` holds the weights of both directions.

    For padded inputs, each direction is one call of PyTorch's kernel. The backward direction reads each utterance
    reversed within its length, so padding never reaches a valid frame. `nn.LSTM(bidirectional=True)` on padded inputs
    would not ensure this. Packed sequences would, and cuDNN on a GPU uses them, but on a CPU they are many times
    slower.
    """

    def __init__(self, rnn: nn.RNNBase, state_sizes: dict[str, int]):
        """Wrap `rnn`, a PyTorch module of one layer."""
        super().__init__(state_sizes, rnn.bidirectional)
        self.rnn = rnn

    @property
    def kernel(self) -> Callable[..., tuple[Tensor, ...]]:
        """PyTorch's function for the cell. It returns the outputs (N, T, H) and the states after the last frame.

        Raises NotImplementedError; subclasses replace it.
        """
        raise NotImplementedError

    @property
    def weight_owner(self) -> nn.Module:
        return self.rnn

    def advance(self, inputs: Sequence[Tensor], states: States) -> tuple[Sequence[Tensor], States]:
        outputs, left = [], []
        for direction, frames in enumerate(inputs):
            found, *after = self._run(frames, [state[direction, None] for state in states], direction)
            outputs.append(found)
            left.append(after)
        return outputs, tuple(map(torch.cat, zip(*left, strict=True)))

    def forward_packed(self, packed: PackedSequence) -> Tensor:
        """Compute both directions in one call: packed frames (F, D) -> (F, output_size)."""
        return self.rnn(packed)[0].data

    def _run(self, inputs: Tensor, states: Sequence[Tensor], direction: int) -> tuple[Tensor, ...]:
        """Compute one direction: outputs (N, T, H), and states (1, N, size) after the last frame."""
        return self.kernel(
            inputs,
            states if len(states) > 1 else states[0],
            self.rnn.all_weights[direction],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=True,
        )


def rnn_options(input_size: int, config: ModelConfig) -> dict[str, Any]:
    """The arguments of nn.RNN, nn.LSTM and nn.GRU."""
    return {
        "input_size": input_size,
        "hidden_size": config.hidden_size,
        "batch_first": True,
        "bidirectional": config.bidirectional,
    }
