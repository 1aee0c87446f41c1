"""Time-delay neural network as a front end (Waibel et al. 1989; dilated as in Peddinti et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CONTEXTS = ((5, 1), (3, 1), (3, 3))  # frames that a layer joins, and their distance: -2..2, -1..1, {-3, 0, 3}


class TdnnFrontend(nn.Module):
    """Three 1-D convolutions over time, each with ReLU and layer normalisation of every frame: six frames each way."""

    def __init__(self, feat_dim: int, size: int):
        """`size`: units of each layer."""
        super().__init__()
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for width, distance in _CONTEXTS:
            self.layers.append(nn.Conv1d(feat_dim, size, width, padding=width // 2 * distance, dilation=distance))
            self.norms.append(nn.LayerNorm(size))
            feat_dim = size
        self.output_size = size

    def forward(self, feats: Tensor, padding: Tensor) -> Tensor:
        """`feats` (N, T, D), `padding` (N, T), true where frames are not valid -> (N, T, output_size).

        Padding is set to 0 before each layer, as is what lies before the first frame and beyond the last.
        """
        for layer, norm in zip(self.layers, self.norms, strict=True):
            frames = feats.masked_fill(padding[:, :, None], 0.0).transpose(1, 2)
            feats = norm(torch.relu(layer(frames)).transpose(1, 2))
        return feats
