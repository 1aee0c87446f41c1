"""Gated recurrent units (Cho et al. 2014), in PyTorch's form."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asrkit.models.cells.torch_layer import TorchLayer, rnn_options
from asrkit.models.config import ModelConfig


class GruLayer(TorchLayer):
    """r, z = sigmoid(W x_t + U h_{t-1} + b), n = tanh(W x_t + b + r * (U h_{t-1} + b')), * elementwise;
    h_t = (1 - z) * n + z * h_{t-1}.

    The gates are reset, update and new, in this order in the weights.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        super().__init__(nn.GRU(**rnn_options(input_size, config)), {"hidden": config.hidden_size})

    @property
    def kernel(self) -> Callable[..., tuple[Tensor, ...]]:
        """torch.gru: outputs (N, T, H) and the last hidden state."""
        return torch.gru
