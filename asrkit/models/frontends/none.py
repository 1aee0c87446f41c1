"""No front end: the features themselves are stacked."""

from __future__ import annotations

from torch import Tensor

from asrkit.models.config import ModelConfig


class NoFrontEnd:
    """Returns the features unchanged, padding included. It has no weights."""

    def __init__(self, feat_dim: int, feat_channels: int, config: ModelConfig):
        self.output_size = feat_dim

    def __call__(self, feats: Tensor, padding: Tensor) -> Tensor:
        """Return `feats` (N, T, D). `padding` (N, T) has no influence."""
        return feats
