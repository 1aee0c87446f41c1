"""The LSTM kernel: against nn.LSTM in float64, an utterance at a time, and against the written-out equations."""

import numpy as np
import pytest
import torch
from torch import nn

from asrkit._native import kernel
from asrkit.models.lstm_kernel import Direction, directions_of, lstm, pack, packing_of, unpack

native = kernel("_lstm")
pytestmark = pytest.mark.skipif(native is None, reason="_lstm is not built, or ASRKIT_NO_NATIVE is 1")


def run(rnn, inputs, lens):
    """A padded batch through the kernel."""
    packing = packing_of(lens, inputs.shape[1])
    return unpack(lstm(pack(inputs, packing), packing.batch_sizes, directions_of(rnn)), packing, inputs.shape[:2])


def assert_close(found, expected, tolerance):
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= tolerance * max(1e-3, expected.abs().max())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("hidden", "size", "lens"),
    [
        (1, 1, [1]),
        (1, 3, [4, 2]),
        (3, 2, [2, 2]),
        (8, 4, [5, 0, 7]),
        (17, 5, [4, 9, 1, 7]),
        (32, 8, [5, 6, 7, 8, 8]),
        (33, 6, [3, 3, 9, 3, 3, 8]),
        (128, 39, [20, 33, 50, 41, 50, 1, 2]),
        (150, 7, [30, 10, 20]),
        (300, 3, [6, 6, 5, 1]),
    ],
)
def test_outputs_and_gradients_are_those_of_nn_lstm_on_each_utterance_alone(hidden, size, lens, bidirectional):
    torch.manual_seed(hidden)
    num_frames = max(lens) + 2
    rnn = nn.LSTM(size, hidden, batch_first=True, bidirectional=bidirectional)
    exact = nn.LSTM(size, hidden, batch_first=True, bidirectional=bidirectional).double()
    exact.load_state_dict(rnn.state_dict())
    inputs = torch.randn(size, num_frames, len(lens)).transpose(0, 2).requires_grad_()  # not contiguous
    exact_inputs = inputs.detach().double().requires_grad_()
    upstream = torch.randn(len(lens), num_frames, hidden * (2 if bidirectional else 1))

    outputs = run(rnn, inputs, torch.tensor(lens))
    (outputs * upstream).sum().backward()
    total = 0.0
    for n, length in enumerate(lens):
        assert (outputs[n, length:] == 0).all()
        if length == 0:
            continue
        expected = exact(exact_inputs[n : n + 1, :length])[0][0]
        assert_close(outputs[n, :length], expected, 1e-6)
        total = total + (expected * upstream[n, :length]).sum()
    total.backward()
    assert_close(inputs.grad, exact_inputs.grad, 3e-6)
    for (name, found), expected in zip(rnn.named_parameters(), exact.parameters(), strict=True):
        assert found.grad is not None, name
        assert_close(found.grad, expected.grad, 3e-6)


def peephole_loop(frames, weights: Direction):
    """Graves et al. 2013, an utterance (T, D), frame by frame."""
    hidden = cell = torch.zeros(weights.weight_hh.shape[1], dtype=frames.dtype)
    outputs = []
    for frame in frames:
        sums = weights.weight_ih @ frame + weights.weight_hh @ hidden + weights.bias
        enter, forget, new, leave = sums.chunk(4)
        enter = torch.sigmoid(enter + weights.peepholes[0] * cell)
        forget = torch.sigmoid(forget + weights.peepholes[1] * cell)
        cell = forget * cell + enter * torch.tanh(new)
        leave = torch.sigmoid(leave + weights.peepholes[2] * cell)
        hidden = leave * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs)


@pytest.mark.parametrize("hidden", [3, 20, 64])
def test_peephole_connections_are_those_of_the_equations(hidden):
    torch.manual_seed(hidden)
    lens, size = [7, 3, 9], 4
    shapes = {"ih": (4 * hidden, size), "hh": (4 * hidden, hidden), "bias": (4 * hidden,), "peepholes": (3, hidden)}
    ways = [Direction(*(0.3 * torch.randn(shape) for shape in shapes.values())) for _ in range(2)]
    exact_ways = [Direction(*(weights.double().requires_grad_() for weights in way)) for way in ways]
    ways = [Direction(*(weights.requires_grad_() for weights in way)) for way in ways]
    inputs, upstream = torch.randn(len(lens), 9, size), torch.randn(len(lens), 9, 2 * hidden)
    packing = packing_of(torch.tensor(lens), 9)
    outputs = unpack(lstm(pack(inputs, packing), packing.batch_sizes, ways), packing, (len(lens), 9))
    (outputs * upstream).sum().backward()

    total = 0.0
    for n, length in enumerate(lens):
        frames = inputs[n, :length].double()
        expected = torch.cat(
            [peephole_loop(frames, exact_ways[0]), peephole_loop(frames.flip(0), exact_ways[1]).flip(0)], dim=1
        )
        assert_close(outputs[n, :length], expected, 1e-6)
        total = total + (expected * upstream[n, :length]).sum()
    total.backward()
    for way, exact_way in zip(ways, exact_ways, strict=True):
        for name, found, expected in zip(Direction._fields, way, exact_way, strict=True):
            assert found.grad is not None, name
            assert_close(found.grad, expected.grad, 3e-6)


def kernel_arrays(lens, hidden, rng):
    """Arguments of forward() by name, with padded units' weights of 0 as the wrapper makes them."""
    panels = -(-hidden // 8)
    frames = sum(lens)
    sizes = [sum(length > t for length in lens) for t in range(max(lens))]
    arrays = {
        "batch_sizes": np.array(sizes),
        "weights": rng.normal(0, 0.3, (panels, hidden, 32)).astype(np.float32),
        "peepholes": rng.normal(0, 0.3, (3, panels * 8)).astype(np.float32),
        "gates": rng.normal(0, 1, (frames, panels, 4, 8)).astype(np.float32),
        "cells": np.empty((frames, panels, 2, 8), np.float32),
        "states": np.empty((frames, panels * 8), np.float32),
        "outputs": np.zeros((frames, hidden), np.float32),
    }
    return arrays, hidden


def rows_of(lens, utterance):
    """Packed rows of an utterance; `lens` fall."""
    starts = np.cumsum([0] + [sum(length > t for length in lens) for t in range(max(lens))])
    return starts[: lens[utterance]] + utterance


@pytest.mark.parametrize("is_reversed", [False, True])
@pytest.mark.parametrize("hidden", [5, 40, 136])
def test_an_utterance_gives_the_same_bits_in_any_batch(hidden, is_reversed):
    rng = np.random.default_rng(hidden)
    lens = [9, 9, 8, 7, 7, 7, 4, 1]
    given, _ = kernel_arrays(lens, hidden, rng)
    before = given["gates"].copy()
    native.forward(*given.values(), hidden, 0, is_reversed)
    grad_outputs = rng.normal(0, 1, given["outputs"].shape).astype(np.float32)
    tiles = -(-hidden // 32)
    back_weights = rng.normal(0, 0.3, (tiles, 4 * given["states"].shape[1], 32)).astype(np.float32)

    def backward(arrays, grads):
        grad_gates = np.empty_like(arrays["gates"])
        names = ("peepholes", "gates", "cells")
        rest = (grads, grad_gates, np.empty_like(arrays["peepholes"]), hidden, 0, is_reversed)
        native.backward(arrays["batch_sizes"], back_weights, *(arrays[name] for name in names), *rest)
        return grad_gates

    grad_gates = backward(given, grad_outputs)
    for chosen in ([0], [2], [7], [1, 3], [0, 2, 6], [0, 1, 2, 3], [1, 2, 3, 4, 5]):
        some, _ = kernel_arrays([lens[u] for u in chosen], hidden, rng)
        some |= {name: given[name] for name in ("weights", "peepholes")}
        rows = [(rows_of(lens, u), rows_of([lens[v] for v in chosen], i)) for i, u in enumerate(chosen)]
        grads = np.empty_like(some["outputs"])
        for whole, part in rows:
            some["gates"][part], grads[part] = before[whole], grad_outputs[whole]
        native.forward(*some.values(), hidden, 0, is_reversed)
        found = backward(some, grads)
        for whole, part in rows:
            np.testing.assert_array_equal(some["outputs"][part], given["outputs"][whole])
            np.testing.assert_array_equal(found[part], grad_gates[whole])


def test_gates_are_exact_to_float32_over_their_whole_range():
    values = np.concatenate([-np.logspace(-7, 2.5, 400), [0.0], np.logspace(-7, 2.5, 399)]).astype(np.float32)
    given, hidden = kernel_arrays([800], 8, np.random.default_rng(0))
    given["weights"][:] = 0
    given["peepholes"][:] = 0
    given["gates"][:] = values[:, None, None, None]
    native.forward(*given.values(), hidden, 0, False)
    exact = values.astype(np.float64)
    sigmoid = 1 / (1 + np.exp(-np.clip(exact, -87, None)))
    for gate, expected in enumerate([sigmoid, sigmoid, np.tanh(exact), sigmoid]):
        np.testing.assert_allclose(given["gates"][:, 0, gate, :], expected[:, None].repeat(8, 1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_not_finite_stay_in_their_utterance(value):
    given, hidden = kernel_arrays([6, 6, 6], 12, np.random.default_rng(1))
    given["gates"][rows_of([6, 6, 6], 1)[2], 0, 0, 3] = value
    native.forward(*given.values(), hidden, 0, False)
    for utterance in (0, 2):
        assert np.isfinite(given["outputs"][rows_of([6, 6, 6], utterance)]).all()
    touched = given["outputs"][rows_of([6, 6, 6], 1)]
    assert np.isfinite(touched[:2]).all()
    assert np.isnan(touched[2, 3]) == np.isnan(value)
    assert np.isnan(touched[3:]).all() == np.isnan(value)


@pytest.mark.parametrize(
    ("rows", "depth", "tiles"), [(1, 1, 1), (2, 5, 2), (4, 128, 1), (97, 129, 3), (200, 300, 2), (3, 0, 1), (0, 3, 1)]
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_products_are_exact_and_a_row_does_not_depend_on_the_others(rows, depth, tiles, has_bias):
    rng = np.random.default_rng(rows + depth)
    left, right = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((rows, depth), (depth, 32 * tiles)))
    bias = rng.normal(0, 1, 32 * tiles).astype(np.float32) if has_bias else None
    in_tiles = np.ascontiguousarray(right.reshape(depth, tiles, 32).transpose(1, 0, 2))
    product = np.full((rows, 32 * tiles), np.nan, np.float32)
    native.multiply(left, in_tiles, bias, product)
    expected = left.astype(np.float64) @ right + (0 if bias is None else bias)
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-5 * max(1, depth**0.5))
    for first in range(0, rows, 7):
        part = np.empty((len(left[first : first + 5]), 32 * tiles), np.float32)
        native.multiply(left[first : first + 5], in_tiles, bias, part)
        np.testing.assert_array_equal(part, product[first : first + 5])


@pytest.mark.parametrize(
    ("name", "shape"),
    [("tiles", (1, 4, 32)), ("tiles", (1, 3, 31)), ("bias", (31,)), ("product", (2, 31)), ("product", (1, 32))],
)
def test_multiply_refuses_what_its_loops_could_not_index(name, shape):
    shapes = {"left": (2, 3), "tiles": (1, 3, 32), "bias": (32,), "product": (2, 32)} | {name: shape}
    with pytest.raises(ValueError, match=f"{name} does not fit"):
        native.multiply(*(np.zeros(size, np.float32) for size in shapes.values()))


def test_a_second_derivative_is_refused():
    rnn, inputs = nn.LSTM(2, 3, batch_first=True), torch.randn(1, 4, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(run(rnn, inputs, torch.tensor([4])).square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_it_works_without_gradients_and_for_inputs_that_need_none():
    rnn, inputs, lens = nn.LSTM(2, 3, batch_first=True), torch.randn(2, 4, 2), torch.tensor([4, 3])
    outputs = run(rnn, inputs, lens)
    outputs.sum().backward()
    assert rnn.weight_ih_l0.grad.abs().sum() > 0
    with torch.inference_mode():
        assert torch.equal(run(rnn, inputs, lens), outputs)


def outputs_and_gradients():
    torch.manual_seed(0)
    rnn, inputs, lens = nn.LSTM(5, 42, batch_first=True, bidirectional=True), torch.randn(5, 30, 5), [30, 29, 7, 8, 1]
    outputs = run(rnn, inputs.requires_grad_(), torch.tensor(lens))
    outputs.square().sum().backward()
    return [outputs, inputs.grad, *(weights.grad for weights in rnn.parameters())]


def test_results_repeat_and_do_not_depend_on_memory_that_was_not_set():
    expected = outputs_and_gradients()
    torch.use_deterministic_algorithms(True)  # which fills new tensors with NaN
    try:
        found = outputs_and_gradients()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("batch_sizes", np.array([2, 1], np.int32), TypeError),
        ("batch_sizes", np.array([4]), ValueError),
        ("batch_sizes", np.array([2, 2]), ValueError),
        ("batch_sizes", np.array([1, 2]), ValueError),
        ("batch_sizes", np.array([2, 1, 0]), ValueError),
        ("batch_sizes", np.array([2**62, 2**62]), ValueError),
        ("batch_sizes", np.array([4, -1]), ValueError),
        ("batch_sizes", np.array([], np.int64), ValueError),
        ("weights", np.zeros((1, 5, 32)), TypeError),
        ("weights", np.zeros((1, 4, 32), np.float32), ValueError),
        ("weights", np.zeros((1, 5, 40), np.float32)[:, :, :32], ValueError),
        ("peepholes", np.zeros((3, 5), np.float32), ValueError),
        ("gates", np.zeros((3, 2, 4, 8), np.float32), ValueError),
        ("gates", np.zeros((3, 1, 4, 4), np.float32), ValueError),
        ("gates", np.zeros((3, 1, 8, 4), np.float32), ValueError),
        ("cells", np.zeros((2, 1, 2, 8), np.float32), ValueError),
        ("cells", None, TypeError),
        ("states", np.zeros((3, 5), np.float32), ValueError),
        ("outputs", np.zeros((3, 4), np.float32), ValueError),
        ("outputs", np.zeros((2, 5), np.float32), ValueError),
        ("hidden", 9, ValueError),
        ("hidden", 0, ValueError),
        ("hidden", 2**64, OverflowError),
        ("column", 1, ValueError),
        ("column", -1, ValueError),
        ("column", 2**62, ValueError),
        ("column", "0", TypeError),
    ],
)
def test_forward_refuses_what_its_loops_could_not_index(name, value, error):
    arrays, hidden = kernel_arrays([2, 1], 5, np.random.default_rng(0))
    arguments = arrays | {"hidden": hidden, "column": 0, "is_reversed": False} | {name: value}
    with pytest.raises((error, BufferError)):
        native.forward(*arguments.values())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("weights", (1, 31, 32)),
        ("gates", (3, 1, 8, 4)),
        ("cells", (3, 1, 8)),
        ("grad_outputs", (3, 4)),
        ("grad_gates", (2, 1, 4, 8)),
        ("grad_peepholes", (3, 5)),
        ("grad_peepholes", None),
        ("peepholes", None),
    ],
)
def test_backward_refuses_what_its_loops_could_not_index(name, shape):
    shapes = {
        "weights": (1, 32, 32), "peepholes": (3, 8), "gates": (3, 1, 4, 8), "cells": (3, 1, 2, 8),
        "grad_outputs": (3, 5), "grad_gates": (3, 1, 4, 8), "grad_peepholes": (3, 8),
    }  # fmt: skip
    arrays = {key: np.zeros(size, np.float32) for key, size in shapes.items()}
    native.backward(np.array([2, 1]), *arrays.values(), 5, 0, False)
    arrays[name] = None if shape is None else np.zeros(shape, np.float32)
    with pytest.raises((ValueError, TypeError)):
        native.backward(np.array([2, 1]), *arrays.values(), 5, 0, False)


def test_refuses_another_number_of_arguments():
    for function in (native.forward, native.backward, native.multiply):
        with pytest.raises(TypeError, match="takes exactly"):
            function(np.array([1]))
