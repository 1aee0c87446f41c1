"""No front end: stacking takes the features."""

from __future__ import annotations

from torch import Tensor

from asrkit.models.config import ModelConfig


class NoFrontEnd:
    """Gives the features as they are, padding too. It has no weights."""

    def __init__(self, feat_dim: int, feat_channels: int, config: ModelConfig):
        self.output_size = feat_dim

    def __call__(self, feats: Tensor, padding: Tensor) -> Tensor:
        return feats
