"""The LSTM with peephole connections (Gers and Schmidhuber 2000; in the form of Graves et al. 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkit.models.cells.layer import States
from asrkit.models.cells.stepped_layer import SteppedLayer
from asrkit.models.config import ModelConfig


class PeepholeLstmLayer(SteppedLayer):
    """An LSTM whose gates see the cell state. The output gate sees that of the same frame. * is elementwise.

    i = sigmoid(W_xi x_t + W_hi h_{t-1} + w_ci * c_{t-1} + b_i)
    f = sigmoid(W_xf x_t + W_hf h_{t-1} + w_cf * c_{t-1} + b_f)
    c_t = f * c_{t-1} + i * tanh(W_xc x_t + W_hc h_{t-1} + b_c)
    o = sigmoid(W_xo x_t + W_ho h_{t-1} + w_co * c_t + b_o)
    h_t = o * tanh(c_t)

    `weight_ih_l0`, `weight_hh_l0` and `bias_ih_l0` hold the gates in PyTorch's order: input, forget, cell, output.
    `weight_ch_l0` (3, H) holds the peepholes of input, forget and output gate. There is one bias, where PyTorch has
    two.
    """

    has_lstm_kernel = True

    def __init__(self, input_size: int, config: ModelConfig):
        size = config.hidden_size
        shapes = {
            "weight_ih": (4 * size, input_size),
            "bias_ih": (4 * size,),
            "weight_hh": (4 * size, size),
            "weight_ch": (3, size),
        }
        super().__init__({"hidden": size, "cell": size}, config, shapes)

    def run(self, input_sums: Sequence[Tensor], states: States) -> tuple[list[Tensor], States]:
        """From `input_sums`, T tensors (K, N, 4H), to the outputs, T tensors (K, N, H).

        `states` as in SteppedLayer.run.
        """
        recurrent = self.transposed("weight_hh")
        input_peephole, forget_peephole, output_peephole = self.vectors("weight_ch").unbind(2)  # (K, 1, H) each
        (hidden, cell), outputs = states, []
        for input_sum in input_sums:
            input_gate, forget_gate, cell_gate, output_gate = torch.baddbmm(input_sum, hidden, recurrent).chunk(
                4, dim=2
            )
            input_gate = torch.sigmoid(torch.addcmul(input_gate, input_peephole, cell))
            forget_gate = torch.sigmoid(torch.addcmul(forget_gate, forget_peephole, cell))
            cell = torch.addcmul(forget_gate * cell, input_gate, torch.tanh(cell_gate))
            output_gate = torch.sigmoid(torch.addcmul(output_gate, output_peephole, cell))
            hidden = output_gate * torch.tanh(cell)
            outputs.append(hidden)
        return outputs, (hidden, cell)
