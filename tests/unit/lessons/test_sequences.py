"""The networks of lesson 7, against NumPy and against what defines a sum and a forecast."""

import numpy as np
import pytest
import torch

from asrkit.lessons.sequences import BLANK, CHARACTERS, SumWriter, draw_sums, encode, is_held_out
from asrkit.lessons.series import (
    HORIZON,
    NUM_LAGS,
    WARM_UP,
    Elman,
    Series,
    by_last_value,
    by_linear_model,
    closed_loop,
    elman_closed_loop,
    energy,
    plant,
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class InNumpy:
    """A SumWriter for one question, in float64."""

    def __init__(self, network: SumWriter):
        self.attends = network.attends
        self.weights = {name: value.detach().double().numpy() for name, value in network.named_parameters()}

    def gru(self, x: np.ndarray, h: np.ndarray, name: str, layer: str = "") -> np.ndarray:
        of_input, of_state = (
            self.weights[f"{name}.weight_{kind}{layer}"] @ value + self.weights[f"{name}.bias_{kind}{layer}"]
            for kind, value in (("ih", x), ("hh", h))
        )
        (xr, xz, xn), (hr, hz, hn) = np.split(of_input, 3), np.split(of_state, 3)
        z = sigmoid(xz + hz)
        return (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h

    def write(self, question: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Log probabilities (T, 12) and weights (T, J) when it goes on from its own characters."""
        codes = np.eye(len(CHARACTERS))
        states = [np.zeros(len(self.weights["encoder.weight_hh_l0"]) // 3)]
        for character in question:
            states.append(self.gru(codes[CHARACTERS.index(character)], states[-1], "encoder", "_l0"))
        h = np.array(states[1:])
        s, y, outputs, attended = h[-1], BLANK, [], []
        for _ in range(length):
            alpha = np.eye(len(h))[-1]
            if self.attends:
                sums = self.weights["query.weight"] @ s + self.weights["query.bias"] + h @ self.weights["key.weight"].T
                e = np.tanh(sums) @ self.weights["score.weight"][0]
                alpha = np.exp(e) / np.exp(e).sum()
            c = alpha @ h
            s = self.gru(np.concatenate([codes[y], c]), s, "decoder")
            scores = self.weights["output.weight"] @ np.concatenate([s, c]) + self.weights["output.bias"]
            outputs.append(scores - np.log(np.exp(scores).sum()))
            attended.append(alpha)
            y = int(np.argmax(scores))
        return np.array(outputs), np.array(attended)


@pytest.mark.parametrize("attends", [True, False])
@torch.no_grad()
def test_reading_and_writing(attends: bool) -> None:
    torch.manual_seed(0)
    network = SumWriter(attends)
    for weights in network.parameters():
        weights *= 4  # so that weights of attention differ
    questions = [" 10+6", "7+123"]
    log_probs, weights = network(encode(questions), None, 4)
    for n, question in enumerate(questions):
        expected, attended = InNumpy(network).write(question, 4)
        np.testing.assert_allclose(log_probs[n], expected, atol=1e-4)
        np.testing.assert_allclose(weights[n], attended, atol=1e-5)
    own = torch.cat([log_probs.argmax(dim=2)])
    torch.testing.assert_close(network(encode(questions), own, 4)[0], log_probs)  # told what it would say itself


def test_sums() -> None:
    rng = np.random.default_rng(0)
    for held_out in (True, False):
        questions, answers = draw_sums(300, 3, held_out, rng)
        assert {len(question) for question in questions} == {7}
        assert {len(answer) for answer in answers} == {5}
        assert {len(question.strip()) for question in questions} == {3, 4, 5, 6, 7}
        for question, answer in zip(questions, answers, strict=True):
            a, b = map(int, question.split("+"))
            assert a + b == int(answer)
            assert is_held_out(a, b) == held_out


def test_the_plant_obeys_its_equation() -> None:
    rng = np.random.default_rng(0)
    series = plant(90, rng)
    # Undo the standardisation by what the equation says of two steps at rest: y(0) = y(1) = 0, y(2) = 0.3 u(1).
    scale = 0.3 * series.inputs[1] / (series.outputs[2] - series.outputs[0])
    y = (series.outputs - series.outputs[0]) * scale
    now, before, u = y[1:-1], y[:-2], series.inputs[1:-1]
    expected = 1.8 * now / (1 + now**2) + 0.4 * now - 0.7 * before + 0.3 * u
    np.testing.assert_allclose(y[2:], expected, atol=1e-9)


def sine() -> Series:
    """What a linear model tells exactly: y(t + 1) = 2 cos(w) y(t) - y(t - 1) + u(t), u an impulse."""
    y, u = np.zeros(300), np.zeros(300)
    u[::7] = np.random.default_rng(0).normal(size=len(u[::7]))
    for t in range(1, 299):
        y[t + 1] = 1.9 * 0.9 * y[t] - 0.81 * y[t - 1] + u[t]
    return Series(y, u, 200)


def test_linear_and_naive_forecasts() -> None:
    series, starts = sine(), np.arange(220, 280)
    true = series.outputs[starts[:, None] + np.arange(1, HORIZON + 1)]
    np.testing.assert_allclose(by_linear_model(series, starts), true, atol=1e-9)  # inputs ahead are known
    np.testing.assert_array_equal(by_last_value(series, starts)[:, 5], series.outputs[starts])


def test_a_closed_loop_sees_its_own_values_and_no_later_true_ones() -> None:
    series, starts = sine(), np.array([100, 150])

    def step(seen: np.ndarray) -> np.ndarray:
        return seen[:, 0] + 10 * seen[:, 1] + 0.5 * seen[:, NUM_LAGS]

    told = closed_loop(step, series, starts)
    for n, start in enumerate(starts):
        y = [*series.outputs[: start + 1]]
        for t in range(start, start + HORIZON):
            y.append(y[-1] + 10 * y[-2] + 0.5 * series.inputs[t])
        np.testing.assert_allclose(told[n], y[start + 1 :])


@torch.no_grad()
def test_elman_s_closed_loop() -> None:
    torch.manual_seed(0)
    network, series, start = Elman(), sine(), 120
    both = torch.tensor(np.stack([series.outputs, series.inputs], axis=1), dtype=torch.float32)
    told = elman_closed_loop(network, both, np.array([start]))[0]
    weights = {name: value.double().numpy() for name, value in network.named_parameters()}
    h, y = np.zeros(len(weights["rnn.bias_hh_l0"])), float("nan")
    expected = []
    for t in range(start + 1 - WARM_UP, start + HORIZON):
        now = series.outputs[t] if t <= start else y
        sums = weights["rnn.weight_ih_l0"] @ [now, series.inputs[t]] + weights["rnn.bias_ih_l0"]
        h = np.tanh(sums + weights["rnn.weight_hh_l0"] @ h + weights["rnn.bias_hh_l0"])
        y = (weights["output.weight"] @ h + weights["output.bias"])[0]
        if t >= start:
            expected.append(y)
    np.testing.assert_allclose(told, expected, atol=1e-4)


def test_the_energy_of_speech() -> None:
    series = energy(2)
    learnt = series.outputs[: series.num_learnt]
    assert (learnt.mean(), learnt.std()) == (pytest.approx(0), pytest.approx(1))
    assert len(series.outputs) > 200  # two sentences last more than two seconds
    assert not series.inputs.any()
