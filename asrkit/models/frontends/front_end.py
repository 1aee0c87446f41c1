"""The interface of front ends.

Legend: N utterances, T frames, D feature dim.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class FrontEnd(Protocol):
    """Keeps the number of frames: (N, T, D) -> (N, T, output_size). With weights, it is a module."""

    output_size: int

    def __call__(self, feats: Tensor, padding: Tensor) -> Tensor:
        """`feats` (N, T, D), `padding` (N, T), true where frames are not valid -> (N, T, output_size).

        Layers take padding for 0, as they do what lies before the first frame and beyond the last.
        """
        ...
