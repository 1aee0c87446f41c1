"""No front end: stacking takes the features."""

from __future__ import annotations

from torch import Tensor

from asrkit.models.config import ModelConfig
from asrkit.models.frontends.front_end import FrontEnd


class NoFrontEnd(FrontEnd):
    """Gives the features as they are, padding too."""

    def __init__(self, feat_dim: int, feat_channels: int, config: ModelConfig):
        super().__init__(feat_dim)

    def forward(self, feats: Tensor, padding: Tensor) -> Tensor:
        return feats
