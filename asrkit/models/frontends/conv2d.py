"""2-D convolution over time and frequency as a front end (Sainath et al. 2013; strides as in Amodei et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asrkit.models.config import ModelConfig


class Conv2dFrontEnd(nn.Module):
    """Two layers of 3 x 3 filters with ReLU. Each layer halves the number of frequencies, and keeps all frames.

    Static features and each order of deltas are channels of the input, so that a filter sees them at the same place. It
    is meant for log mel energies, where neighbours are near in frequency. Cepstral coefficients lack this property.
    """

    def __init__(self, feat_dim: int, feat_channels: int, config: ModelConfig):
        """An untrained front end.

        `feat_channels`: the number of equal parts of a feature vector that become channels.
        """
        size = config.conv_channels  # of each layer
        super().__init__()
        self.output_size = size * ((feat_dim // feat_channels + 3) // 4)
        self.feat_channels = feat_channels
        self.first = nn.Conv2d(feat_channels, size, 3, stride=(1, 2), padding=1)
        self.second = nn.Conv2d(size, size, 3, stride=(1, 2), padding=1)

    def forward(self, feats: Tensor, padding: Tensor) -> Tensor:
        """Compute (N, T, output_size) from `feats` (N, T, D). `padding` (N, T) is true in padding."""
        # For every new shape oneDNN's convolutions keep some MB. Rounded lengths give fewer shapes.
        num_frames, extra = feats.shape[1], -feats.shape[1] % 32
        feats = nn.functional.pad(feats, (0, 0, 0, extra))
        padding = nn.functional.pad(padding, (0, extra), value=True)[:, None, :, None]
        maps = feats.unflatten(2, (self.feat_channels, -1)).transpose(1, 2)  # (N, channels, T, frequencies)
        for layer in (self.first, self.second):
            maps = torch.relu(layer(maps.masked_fill(padding, 0.0)))
        return maps[:, :, :num_frames].transpose(1, 2).flatten(2)
