"""What all front ends share: one interface.

Legend: N utterances, T frames, D feature dim.
"""

from __future__ import annotations

from torch import Tensor, nn


class FrontEnd(nn.Module):
    """Layers that keep the number of frames: (N, T, D) -> (N, T, output_size)."""

    def __init__(self, output_size: int):
        super().__init__()
        self.output_size = output_size

    def forward(self, feats: Tensor, padding: Tensor) -> Tensor:
        """`feats` (N, T, D), `padding` (N, T), true where frames are not valid -> (N, T, output_size).

        Padding is set to 0 before each layer, as is what lies before the first frame and beyond the last.
        """
        raise NotImplementedError
