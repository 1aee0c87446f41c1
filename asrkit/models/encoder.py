"""The interface of encoders: the layers between the steps and the heads.

Legend: N utterances, T' steps, D input dim.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Feedback = Callable[[Tensor], Tensor]  # (..., output_size) -> the same shape, each step by itself


class Encoder(nn.Module):
    """(N, T', D) -> (N, T', output_size): what leaves it for an utterance does not depend on what it is batched with.

    Attributes:
        output_size: units of each layer's output.
        joined: steps of the input that one of the output stands for.
    """

    output_size: int
    joined = 1

    def forward(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """(N, T', D), lens (N,) -> outputs (N, T', output_size), the last layer's. Padded steps hold anything.

        With `feedback`, those of all layers; what it makes of a layer's outputs is added to the next layer's inputs.
        """
        raise NotImplementedError
