"""Vectors of tokens."""

from torch import nn


class Embedding(nn.Embedding):
    """nn.Embedding that draws no weights on the "meta" device, which keeps none.

    Sizes of files are checked there, and PyTorch would load its compiler to draw them: two CPU-seconds.
    """

    def reset_parameters(self) -> None:
        """Draw the weights as nn.Embedding does, where there are any."""
        if not self.weight.is_meta:
            super().reset_parameters()
