"""Time-delay neural network as a front end (Waibel et al. 1989; dilated as in Peddinti et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asrkit.models.config import ModelConfig

CONTEXTS = ((-2, -1, 0, 1, 2), (-1, 0, 1), (-3, 0, 3))  # the frames that each layer joins, relative to its own


class TdnnFrontEnd(nn.Module):
    """Three layers over neighbouring frames, each with ReLU and layer normalisation: six frames on either side.

    Each layer is a matrix product of joined frames, not a convolution. That is as fast on a CPU, and uses less memory:
    oneDNN's convolutions keep memory for every new length.
    """

    def __init__(self, feat_dim: int, feat_channels: int, config: ModelConfig):
        size = config.tdnn_size  # units of each layer
        super().__init__()
        self.output_size = size
        sizes = (feat_dim, size, size)
        self.layers = nn.ModuleList(nn.Linear(len(c) * dim, size) for c, dim in zip(CONTEXTS, sizes, strict=True))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in CONTEXTS)

    def forward(self, feats: Tensor, padding: Tensor) -> Tensor:
        """Compute (N, T, output_size) from `feats` (N, T, D). `padding` (N, T) is true in padding."""
        num_frames = feats.shape[1]
        for context, layer, norm in zip(CONTEXTS, self.layers, self.norms, strict=True):
            reach = context[-1]
            frames = nn.functional.pad(feats.masked_fill(padding[:, :, None], 0.0), (0, 0, reach, reach))
            joined = torch.cat([frames[:, reach + shift :][:, :num_frames] for shift in context], dim=2)
            feats = norm(torch.relu(layer(joined)))
        return feats
