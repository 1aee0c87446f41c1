"""Every recurrent layer against a NumPy reference that goes frame by frame, and its gradients against differences."""

import numpy as np
import pytest
import torch
from torch.func import functional_call

from asrkit.models.cells.layer import reversal_index
from asrkit.models.config import ModelConfig
from asrkit.models.recurrent import RecurrentStack, make_layer

CELLS = {
    "lstm": {},
    "projected lstm": {"cell": "lstm", "projection_size": 3},
    "peephole_lstm": {},
    "gru": {},
    "elman": {},
    "relu elman": {"cell": "elman", "nonlinearity": "relu"},
    "jordan": {},
    "relu jordan": {"cell": "jordan", "nonlinearity": "relu"},
}


def config_of(name, **settings):
    return ModelConfig(**{"cell": name, "num_layers": 1, "hidden_size": 7, **CELLS[name], **settings})


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


# The references: one direction, one utterance (T, D), one frame after the other; W holds the weights in float64.


def lstm(W, frames, size):
    """Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000; projection as in Sak et al. 2014."""
    cell = np.zeros(size)
    out = np.zeros(W["weight_hh_l0"].shape[1])
    outputs = []
    for x in frames:
        sums = W["weight_ih_l0"] @ x + W["bias_ih_l0"] + W["weight_hh_l0"] @ out + W["bias_hh_l0"]
        i, f, g, o = sums[:size], sums[size : 2 * size], sums[2 * size : 3 * size], sums[3 * size :]
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        out = sigmoid(o) * np.tanh(cell)
        if "weight_hr_l0" in W:
            out = W["weight_hr_l0"] @ out
        outputs.append(out)
    return np.array(outputs)


def peephole_lstm(W, frames, size):
    """Equations 7 to 11 of Graves et al. 2013."""
    blocks = {gate: slice(k * size, (k + 1) * size) for k, gate in enumerate("ifco")}
    w_ci, w_cf, w_co = W["weight_ch_l0"]
    c = h = np.zeros(size)
    outputs = []
    for x in frames:

        def total(gate, x=x, h=h):
            rows = blocks[gate]
            return W["weight_ih_l0"][rows] @ x + W["weight_hh_l0"][rows] @ h + W["bias_ih_l0"][rows]

        i = sigmoid(total("i") + w_ci * c)
        f = sigmoid(total("f") + w_cf * c)
        c = f * c + i * np.tanh(total("c"))
        o = sigmoid(total("o") + w_co * c)
        h = o * np.tanh(c)
        outputs.append(h)
    return np.array(outputs)


def gru(W, frames, size):
    """Cho et al. 2014 in PyTorch's form: the reset gate multiplies the recurrent sum, its bias included."""
    h = np.zeros(size)
    outputs = []
    for x in frames:
        from_input = W["weight_ih_l0"] @ x + W["bias_ih_l0"]
        from_state = W["weight_hh_l0"] @ h + W["bias_hh_l0"]
        r = sigmoid(from_input[:size] + from_state[:size])
        z = sigmoid(from_input[size : 2 * size] + from_state[size : 2 * size])
        n = np.tanh(from_input[2 * size :] + r * from_state[2 * size :])
        h = (1 - z) * n + z * h
        outputs.append(h)
    return np.array(outputs)


def elman(W, frames, size, f=np.tanh):
    h = np.zeros(size)
    outputs = []
    for x in frames:
        h = f(W["weight_ih_l0"] @ x + W["bias_ih_l0"] + W["weight_hh_l0"] @ h + W["bias_hh_l0"])
        outputs.append(h)
    return np.array(outputs)


def jordan(W, frames, size, f=np.tanh):
    y = np.zeros(size)
    outputs = []
    for x in frames:
        h = f(W["weight_ih_l0"] @ x + W["weight_hh_l0"] @ y + W["bias_ih_l0"])
        y = f(W["weight_ho_l0"] @ h + W["bias_ho_l0"])
        outputs.append(y)
    return np.array(outputs)


REFERENCES = {
    "lstm": lstm,
    "projected lstm": lstm,
    "peephole_lstm": peephole_lstm,
    "gru": gru,
    "elman": elman,
    "relu elman": lambda *args: elman(*args, f=relu),
    "jordan": jordan,
    "relu jordan": lambda *args: jordan(*args, f=relu),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_equals_its_reference_step_by_step(name, bidirectional):
    torch.manual_seed(1)
    layer = make_layer(5, config_of(name, bidirectional=bidirectional))
    for weights in layer.parameters():  # larger than usual, so that every term counts
        torch.nn.init.uniform_(weights, -0.8, 0.8)
    lens = torch.tensor([9, 4, 1])
    batch = torch.randn(3, 9, 5)
    outputs = layer(batch, reversal_index(lens, 9)).detach().numpy()
    weights = {key.split(".")[-1]: value.detach().double().numpy() for key, value in layer.named_parameters()}
    ahead = {key: value for key, value in weights.items() if not key.endswith("_reverse")}
    back = {key.removesuffix("_reverse"): value for key, value in weights.items() if key.endswith("_reverse")}
    assert bool(back) == bidirectional
    for row, frames, length in zip(outputs, batch.double().numpy(), lens.tolist(), strict=True):
        expected = REFERENCES[name](ahead, frames[:length], 7)
        if bidirectional:
            expected = np.hstack([expected, REFERENCES[name](back, frames[:length][::-1], 7)[::-1]])
        assert layer.output_size == expected.shape[1]
        np.testing.assert_allclose(row[:length], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["peephole_lstm", "jordan"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_hand_written_layers_pass_gradcheck(name, bidirectional):
    torch.manual_seed(2)
    layer = make_layer(3, config_of(name, hidden_size=2, bidirectional=bidirectional)).double()
    names, values = zip(*((key, weights.detach()) for key, weights in layer.named_parameters()), strict=True)
    lens = torch.tensor([4, 2])
    reverse, valid = reversal_index(lens, 4), torch.arange(4) < lens[:, None]

    def run(inputs, *weights):
        return functional_call(layer, dict(zip(names, weights, strict=True)), (inputs, reverse))[valid]

    inputs = torch.randn(2, 4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(run, [value.clone().requires_grad_() for value in (inputs, *values)])


@pytest.mark.parametrize("name", ["lstm", "projected lstm", "gru", "elman", "relu elman"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_and_padded_agree(name, bidirectional):
    """What runs on a GPU and what runs on a CPU: the same results and gradients."""
    torch.manual_seed(3)
    config = config_of(name, bidirectional=bidirectional, num_layers=2, dropout=0.0, residual=True)
    stack = RecurrentStack(5, config).double()
    lens = torch.tensor([4, 9, 1, 7])
    valid = torch.arange(9) < lens[:, None]
    inputs = torch.randn(4, 9, 5, dtype=torch.float64)
    found = []
    for run in (stack, stack.forward_packed):
        stack.zero_grad()
        leaf = inputs.clone().requires_grad_()
        lower, outputs = run(leaf, lens, torch.sin)
        assert lower.shape == outputs.shape == (4, 9, stack.output_size)
        ((lower + outputs)[valid] ** 3).sum().backward()
        found.append([lower[valid], outputs[valid], leaf.grad, *(weights.grad for weights in stack.parameters())])
    for padded, packed in zip(*found, strict=True):
        torch.testing.assert_close(padded, packed, atol=1e-12, rtol=1e-10)


def test_residual_connections_pass_over_layers_of_one_size():
    """The first layer changes the size from 5 to 14, so its input is not added; the second's and third's are."""
    torch.manual_seed(4)
    config = config_of("gru", num_layers=3, dropout=0.0, residual=True)
    stack = RecurrentStack(5, config)
    lens = torch.tensor([6])
    reverse = reversal_index(lens, 6)
    inputs = torch.randn(1, 6, 5)
    expected = stack.norms[0](stack.layers[0](inputs, reverse))
    for depth in (1, 2):
        expected = expected + stack.norms[depth](stack.layers[depth](expected, reverse))
    torch.testing.assert_close(stack(inputs, lens), [expected])
    plain = RecurrentStack(5, config_of("gru", num_layers=3, dropout=0.0))
    plain.load_state_dict(stack.state_dict())
    assert not torch.allclose(plain(inputs, lens)[0], expected, atol=1e-3)


def test_reversal_is_within_each_utterance():
    assert reversal_index(torch.tensor([3, 1, 4]), 4).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]]
