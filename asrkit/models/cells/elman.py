"""Elman's simple recurrent network (Elman 1990): the hidden state of a frame is fed back at the next."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asrkit.models.cells.torch_layer import TorchLayer, rnn_options
from asrkit.models.config import ModelConfig


class ElmanLayer(TorchLayer):
    """h_t = f(W x_t + U h_{t-1} + b), f being tanh or relu."""

    def __init__(self, input_size: int, config: ModelConfig):
        rnn = nn.RNN(**rnn_options(input_size, config), nonlinearity=config.nonlinearity)
        super().__init__(rnn, {"hidden": config.hidden_size})
        self.nonlinearity = config.nonlinearity

    @property
    def kernel(self) -> Callable[..., tuple[Tensor, ...]]:
        return getattr(torch, f"rnn_{self.nonlinearity}")
