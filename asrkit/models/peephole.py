"""The LSTM with peephole connections (Gers and Schmidhuber 2000; in the form of Graves et al. 2013)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkit.models.stepped import SteppedLayer


class PeepholeLayer(SteppedLayer):
    """An LSTM whose gates see the cell state, the output gate that of the same frame; * is elementwise.

    i = sigmoid(W_xi x_t + W_hi h_{t-1} + w_ci * c_{t-1} + b_i)     f likewise
    c_t = f * c_{t-1} + i * tanh(W_xc x_t + W_hc h_{t-1} + b_c)
    o = sigmoid(W_xo x_t + W_ho h_{t-1} + w_co * c_t + b_o)         h_t = o * tanh(c_t)

    `weight_ih_l0`, `weight_hh_l0` and `bias_ih_l0` hold the gates in PyTorch's order: input, forget, cell, output.
    `weight_ch_l0` (3, H) holds the peepholes of input, forget and output gate. There is one bias, not PyTorch's two.
    """

    def __init__(self, input_size: int, hidden_size: int, bidirectional: bool):
        shapes = {"weight_hh": (4 * hidden_size, hidden_size), "weight_ch": (3, hidden_size)}
        super().__init__(input_size, hidden_size, bidirectional, 4, shapes)

    def run(self, drive: Sequence[Tensor]) -> list[Tensor]:
        recurrent = self.columns("weight_hh")
        to_enter, to_forget, to_leave = self.rows("weight_ch").unbind(2)  # (K, 1, H) each
        hidden = cell = torch.zeros_like(drive[0][..., : self.hidden_size])
        outputs = []
        for frame in drive:
            enter, forget, new, leave = torch.baddbmm(frame, hidden, recurrent).chunk(4, dim=2)
            enter = torch.sigmoid(torch.addcmul(enter, to_enter, cell))
            forget = torch.sigmoid(torch.addcmul(forget, to_forget, cell))
            cell = torch.addcmul(forget * cell, enter, torch.tanh(new))
            leave = torch.sigmoid(torch.addcmul(leave, to_leave, cell))
            hidden = leave * torch.tanh(cell)
            outputs.append(hidden)
        return outputs
