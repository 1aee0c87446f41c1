"""The Jordan network (Jordan 1986): what is fed back is the layer's output, not its hidden state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkit.models.stepped import SteppedLayer


class JordanLayer(SteppedLayer):
    """h_t = f(W x_t + U y_{t-1} + b), y_t = f(V h_t + c), y_0 = 0; the layer's output is y, of H units like h.

    f is tanh or relu. W is `weight_ih_l0`, b `bias_ih_l0`, U `weight_hh_l0`, V `weight_ho_l0`, c `bias_ho_l0`. Jordan's
    state units may also decay on themselves; here, as in textbooks, they hold the last output.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool, nonlinearity: str = "tanh"):
        square = (hidden_size, hidden_size)
        shapes = {"weight_hh": square, "weight_ho": square, "bias_ho": (hidden_size,)}
        super().__init__(input_size, hidden_size, bidirectional, 1, shapes)
        self.nonlinearity = torch.tanh if nonlinearity == "tanh" else torch.relu

    def run(self, drive: Sequence[Tensor]) -> list[Tensor]:
        feedback, out, bias = self.columns("weight_hh"), self.columns("weight_ho"), self.rows("bias_ho")
        output, outputs = torch.zeros_like(drive[0]), []
        for frame in drive:
            hidden = self.nonlinearity(torch.baddbmm(frame, output, feedback))
            output = self.nonlinearity(torch.baddbmm(bias, hidden, out))
            outputs.append(output)
        return outputs
