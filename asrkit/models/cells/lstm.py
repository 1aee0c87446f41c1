"""Long short-term memory with forget gates (Gers et al. 2000), optionally with a projection (Sak et al. 2014)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from asrkit.models.cells.torch_layer import TorchLayer, rnn_options
from asrkit.models.config import ModelConfig

# PyTorch warns once per process. The result is right, only slower, and users cannot change that.
warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")


class LstmLayer(TorchLayer):
    """i, f, o = sigmoid(W x_t + U h_{t-1} + b), g = tanh(W x_t + U h_{t-1} + b), each with its own W, U and b;
    c_t = f * c_{t-1} + i * g, h_t = o * tanh(c_t), * elementwise.

    With a projection R, h_t = R (o * tanh(c_t)) is both the output and what is fed back. The gates are input, forget,
    cell and output, in this order in the weights.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        rnn = nn.LSTM(**rnn_options(input_size, config), proj_size=config.projection_size or 0)
        super().__init__(rnn, {"hidden": config.projection_size or config.hidden_size, "cell": config.hidden_size})
        self.is_projected = config.projection_size is not None
        self.has_lstm_kernel = not self.is_projected

    @property
    def kernel(self) -> Callable[..., tuple[Tensor, ...]]:
        """torch.lstm: outputs (N, T, H), and the last hidden and cell states."""
        return torch.lstm
