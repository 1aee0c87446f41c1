"""The cells, gradients and problems of lesson 2, against PyTorch's cells, differences and definitions."""

import numpy as np
import pytest
import torch
from torch import nn

from asrkit.lessons.gradients import (
    CELLS,
    ELMAN,
    GRU,
    LSTM,
    OLD_LSTM,
    Adder,
    OneUnit,
    adding_problem,
    clip_by_norm,
    clip_by_value,
    gradient_norms,
)


def weights_of(cell: nn.RNNCellBase, gates: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    count = len(gates)
    return dict(zip(gates, zip(cell.weight_ih.chunk(count), cell.weight_hh.chunk(count), strict=True), strict=True))


@torch.no_grad()
def test_cells_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    x, h, s = torch.randn(2), torch.randn(5), torch.randn(5)
    rnn, gru, lstm = (make(2, 5, bias=False) for make in (nn.RNNCell, nn.GRUCell, nn.LSTMCell))
    torch.testing.assert_close(CELLS[ELMAN](x, (h, s), weights_of(rnn, "h"))[0], rnn(x, h))
    torch.testing.assert_close(CELLS[GRU](x, (h, s), weights_of(gru, "rzh"))[0], gru(x, h))
    torch.testing.assert_close(CELLS[LSTM](x, (h, s), weights_of(lstm, "ifho")), lstm(x, (h, s)))
    kept = CELLS[OLD_LSTM](x, (h, s), weights_of(lstm, "ifho"))[1] - s
    closed = CELLS[OLD_LSTM](x, (h, torch.zeros(5)), weights_of(lstm, "ifho"))[1]
    torch.testing.assert_close(kept, closed)  # nothing is forgotten: s(t) - s(t - 1) does not depend on s(t - 1)


def test_elman_s_gradient_is_bounded_by_the_singular_value() -> None:
    norms = gradient_norms(ELMAN, 0.7, seed=3)
    assert np.all(norms[:-1] <= 0.7 * norms[1:] * (1 + 1e-12))


def test_the_gradient_of_one_unit() -> None:
    unit, point = OneUnit(), np.array([4.7, -2.3])
    _, gradient = unit.loss_and_gradient(point)
    for axis in range(2):
        change = 1e-7 * np.eye(2)[axis]
        above, below = unit.loss_and_gradient(point + change)[0], unit.loss_and_gradient(point - change)[0]
        assert gradient[axis] == pytest.approx((above - below) / 2e-7, rel=1e-4)


def test_clipping() -> None:
    gradient = np.array([3.0, -4.0])
    np.testing.assert_allclose(clip_by_norm(gradient, 1.0), [0.6, -0.8])
    np.testing.assert_array_equal(clip_by_norm(gradient, 6.0), gradient)
    np.testing.assert_array_equal(clip_by_value(gradient, 3.5), [3.0, -3.5])


def test_the_adding_problem() -> None:
    inputs, sums = adding_problem(30, 50, np.random.default_rng(0))
    assert inputs.shape == (40, 50, 2)
    for n in range(50):
        first, second = torch.nonzero(inputs[:, n, 1])[:, 0].tolist()
        assert second - first == 30
        assert sums[n] == pytest.approx(float(inputs[first, n, 0] + inputs[second, n, 0]))


@torch.no_grad()
def test_an_lstm_without_forget_gate_keeps_its_cell() -> None:
    torch.manual_seed(0)
    network = Adder(OLD_LSTM, 4)
    _, (_, state) = network.rnn(torch.rand(1, 3, 2))
    closed = dict(network.rnn.named_parameters())
    closed["weight_ih_l0"][:4] = closed["weight_hh_l0"][:4] = closed["bias_hh_l0"][:4] = 0
    closed["bias_ih_l0"][:4] = -40.0  # input gates shut
    _, (_, later) = network.rnn(torch.rand(30, 3, 2), (torch.rand(1, 3, 4), state))
    torch.testing.assert_close(later, state)
