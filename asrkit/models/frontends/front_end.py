"""The interface of front ends.

Legend: N utterances, T frames, D feature dim.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class FrontEnd(Protocol):
    """(N, T, D) -> (N, T, output_size): it keeps the number of frames. A front end with weights is a module."""

    output_size: int

    def __call__(self, feats: Tensor, padding: Tensor) -> Tensor:
        """Compute (N, T, output_size) from `feats` (N, T, D). `padding` (N, T) is true in padding.

        Layers treat padding like the frames before the first and after the last one: as 0.
        """
        ...
