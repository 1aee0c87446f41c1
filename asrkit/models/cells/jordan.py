"""The Jordan network (Jordan 1986): the layer's output is fed back, not its hidden state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkit.models.cells.layer import States
from asrkit.models.cells.stepped_layer import SteppedLayer
from asrkit.models.config import ModelConfig


class JordanLayer(SteppedLayer):
    """h_t = f(W x_t + U y_{t-1} + b), y_t = f(V h_t + c), y_0 = 0. The output of the layer is y, of H units like h.

    f is tanh or relu. The names of the weights are `weight_ih_l0` (W), `bias_ih_l0` (b), `weight_hh_l0` (U),
    `weight_ho_l0` (V) and `bias_ho_l0` (c). Jordan's state units can also decay. Here, as in textbooks, they hold the
    last output.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        size = config.hidden_size
        shapes = {
            "weight_ih": (size, input_size),
            "bias_ih": (size,),
            "weight_hh": (size, size),
            "weight_ho": (size, size),
            "bias_ho": (size,),
        }
        super().__init__({"hidden": size}, config, shapes)
        self.nonlinearity = config.nonlinearity

    def run(self, input_sums: Sequence[Tensor], states: States) -> tuple[list[Tensor], States]:
        """From `input_sums`, T tensors (K, N, H), to the outputs, T tensors (K, N, H).

        `states` as in SteppedLayer.run.
        """
        activate = getattr(torch, self.nonlinearity)
        feedback, out, bias = self.transposed("weight_hh"), self.transposed("weight_ho"), self.vectors("bias_ho")
        (output,), outputs = states, []
        for input_sum in input_sums:
            hidden = activate(torch.baddbmm(input_sum, output, feedback))
            output = activate(torch.baddbmm(bias, hidden, out))
            outputs.append(output)
        return outputs, (output,)
