"""The simple recurrent network (Elman 1990): the hidden state of a frame is an input of the next frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asrkit.models.cells.torch_layer import TorchLayer, rnn_options
from asrkit.models.config import ModelConfig


class ElmanLayer(TorchLayer):
    """h_t = f(W x_t + U h_{t-1} + b), where f is tanh or relu."""

    def __init__(self, input_size: int, config: ModelConfig):
        rnn = nn.RNN(**rnn_options(input_size, config), nonlinearity=config.nonlinearity)
        super().__init__(rnn, {"hidden": config.hidden_size})
        self.nonlinearity = config.nonlinearity

    @property
    def kernel(self) -> Callable[..., tuple[Tensor, ...]]:
        """torch.rnn_tanh or torch.rnn_relu: outputs (N, T, H) and the last hidden state."""
        return getattr(torch, f"rnn_{self.nonlinearity}")
