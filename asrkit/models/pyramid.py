"""A pyramid of recurrent layers: between two layers neighbouring outputs are joined, so higher layers have fewer steps.

Legend: N utterances, T' steps, D input dim.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from asrkit.models.config import ModelConfig
from asrkit.models.encoder import Encoder, Feedback
from asrkit.models.recurrent import RecurrentStack
from asrkit.models.stacking import stack_frames


class Pyramid(Encoder):
    """Layers of the configured cell.

    Between two layers `pyramid_join` neighbouring outputs become one (Chan et al. 2016).

    So a decoder attends to fewer steps, and each stands for a longer part of the speech.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        super().__init__()
        self.join, self.joined = config.pyramid_join, config.joined
        layers = []
        for _ in range(config.num_layers):
            layers.append(RecurrentStack(input_size, replace(config, num_layers=1, self_conditioning=False)))
            input_size = layers[-1].output_size * self.join
        self.layers = nn.ModuleList(layers)
        self.output_size = layers[-1].output_size

    def forward(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """Compute the output of the last layer, (N, fewer steps, output_size).

        `inputs` is (N, T', D) and `lens` (N,). There is no feedback, since no two layers have the same steps.
        """
        for number, layer in enumerate(self.layers):
            if number:
                inputs, lens = stack_frames(inputs, lens, self.join, self.join)
            (inputs,) = layer(inputs, lens)
        return [inputs]
