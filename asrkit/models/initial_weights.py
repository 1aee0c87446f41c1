"""Initial weights of a network: the functions behind the names of `model.init`.

H: hidden units per direction.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from asrkit.models.cells.stepped_layer import SteppedLayer
from asrkit.models.config import ModelConfig

WeightOwner = nn.RNNBase | nn.RNNCellBase | SteppedLayer  # modules that hold the weights of a recurrent layer


def set_uniform(model: nn.Module, config: ModelConfig) -> None:
    """Draw the weights of recurrent layers uniformly from +-1/sqrt(H), as textbooks and PyTorch do.

    Others are PyTorch's.

    With `init_range`, all weights except those of layer normalisation are uniform in +-init_range (Graves et al. 2013).
    """
    if config.init_range is None:
        for layer in _recurrent_layers(model):
            layer.reset_parameters()
        return
    for module in model.modules():
        if not isinstance(module, nn.LayerNorm):
            for weights in module.parameters(recurse=False):
                nn.init.uniform_(weights, -config.init_range, config.init_range)


def set_orthogonal(model: nn.Module, config: ModelConfig) -> None:
    """Initialise recurrent layers gate by gate: Xavier input weights, and orthogonal other matrices (Saxe et al. 2014).

    The bias of the forget gate is 1 (Gers et al. 2000). Other biases and peepholes are 0.
    """
    for layer in _recurrent_layers(model):
        layer.reset_parameters()
        _set_orthogonal(layer)


def _recurrent_layers(model: nn.Module) -> Iterator[WeightOwner]:
    for module in model.modules():
        if isinstance(module, WeightOwner):
            yield module


@torch.no_grad()
def _set_orthogonal(layer: WeightOwner) -> None:
    size = layer.hidden_size
    for name, weights in layer.named_parameters():
        if weights.dim() == 1 or name.startswith("weight_ch"):
            nn.init.zeros_(weights)
            if name.startswith("bias_ih") and len(weights) == 4 * size:  # PyTorch's order: input, forget, cell, output
                weights[size : 2 * size] = 1
            continue
        fill = nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_
        for gate in weights.split(min(size, len(weights))):
            fill(gate)
