"""The interface of encoders. An encoder consists of the layers between the steps and the heads.

Legend: N utterances, T' steps, D input dim.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Feedback = Callable[[Tensor], Tensor]  # (..., output_size) -> the same shape, each step separately


class Encoder(nn.Module):
    """(N, T', D) -> (N, T', output_size). The output for an utterance does not depend on the rest of its batch.

    Attributes:
        output_size: units of each layer's output.
        joined: input steps per output step.
    """

    output_size: int
    joined = 1

    def forward(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """Compute the outputs of the layers, (N, T', output_size) each. Padded steps hold unspecified values.

        Args:
            inputs: (N, T', D).
            lens: (N,) numbers of steps.
            feedback: for self-conditioning: a function of a layer's outputs whose result is added to the inputs of the
                next layer.

        Returns:
            The output of the last layer; with `feedback`, the outputs of all layers.

        Raises:
            NotImplementedError: subclasses replace the method.
        """
        raise NotImplementedError
