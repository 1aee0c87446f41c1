"""The rules of learning of lesson 1, against direct computations of what they are defined to be."""

import copy
import itertools

import numpy as np
import pytest

from asrkit.lessons.grammar import embed, is_legal, one_hot
from asrkit.lessons.online import OnlineLstm, SimpleNetwork
from asrkit.lessons.reber import full_gradient, held_out_strings, last_but_one, online_gradient, rule_angles

STRING = embed("BTSSXXTVVE", "P")
STEP = 1e-30  # of an imaginary change: the imaginary part of E then is its derivative, exact to rounding


def error_at(hidden: np.ndarray, output: np.ndarray, fed_back: np.ndarray, target: np.ndarray) -> complex:
    """E at the last step of an LSTM for which the outputs that come back, `fed_back` with inputs and 1, are given."""
    s = np.zeros(hidden.shape[1])
    for v in fed_back:
        i, f, g, o = hidden @ v
        i, f, g, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))
        s = f * s + i * g
    y = 1 / (1 + np.exp(-(output @ np.append(o * np.tanh(s), 1))))
    return ((target - y) ** 2).sum() / 2


def test_the_on_line_rule_is_the_gradient_with_the_outputs_that_come_back_held() -> None:
    network = OnlineLstm([np.random.default_rng(3)], 7, 3)
    coded = one_hot([STRING])[0]
    carried, seen = network.initial(), []
    for x, d in itertools.pairwise(coded):
        seen.append(np.concatenate([x, carried[0][0, 0], [1]]))
        of_hidden, of_output, carried = network.gradient(x[None, None], d[None, None], carried)
        for found, name in ((of_hidden[0], "hidden"), (of_output[0], "output")):
            weights = {"hidden": network.hidden[0].astype(complex), "output": network.output[0].astype(complex)}
            expected = np.empty(found.shape)
            for place in np.ndindex(found.shape):
                weights[name][place] += 1j * STEP
                expected[place] = -error_at(**weights, fed_back=np.array(seen), target=d).imag / STEP
                weights[name][place] -= 1j * STEP
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-16)


def test_bptt_is_the_gradient_with_nothing_held() -> None:
    network = OnlineLstm([np.random.default_rng(4)], 7, 3)
    coded = one_hot([STRING])[0]

    def error() -> float:
        carried, total = network.initial(), 0.0
        for x, d in itertools.pairwise(coded):
            y, carried = network.step(x[None, None], carried)
            total += ((d - y) ** 2).sum() / 2
        return total

    found = full_gradient(network, STRING)[: network.hidden.size].reshape(network.hidden.shape)
    for place in [(0, 0, 0, 1), (0, 1, 2, 8), (0, 2, 1, 10), (0, 3, 0, 7)]:
        kept = network.hidden[place]
        network.hidden[place] = kept + 1e-5
        above = error()
        network.hidden[place] = kept - 1e-5
        below = error()
        network.hidden[place] = kept
        assert found[place] == pytest.approx(-(above - below) / 2e-5, rel=1e-6)


def test_the_rule_and_bptt_agree_when_nothing_comes_back() -> None:
    network = OnlineLstm([np.random.default_rng(5)], 7, 3)
    network.hidden[..., 7:10] = 0  # the weights of the blocks' outputs
    is_fed_back = np.zeros_like(network.hidden, dtype=bool)
    is_fed_back[..., 7:10] = True
    ahead, full = online_gradient(network, STRING), full_gradient(network, STRING)
    np.testing.assert_allclose(ahead, full, rtol=1e-9, atol=1e-14)
    assert max(rule_angles([STRING])) > 0.1


@pytest.mark.parametrize("feeds_outputs_back", [False, True])
def test_a_simple_network_s_step_goes_down_the_error_of_the_step(feeds_outputs_back: bool) -> None:
    network = SimpleNetwork([np.random.default_rng(6)], 7, 4, feeds_outputs_back)
    x, d = one_hot(["BT"])[0][:, None, None]
    context = network.initial()
    assert np.all(context[0] == 0.5)
    changed = copy.deepcopy(network)
    (following,) = changed.learn(x, d, context, eta=1e-3)
    y, (expected,) = network.step(x, context)
    np.testing.assert_array_equal(following, expected)
    assert (expected is y) == feeds_outputs_back
    for name in ("hidden", "output"):
        weights, new = getattr(network, name), getattr(changed, name)
        for place in [(0, 0, 0), (0, 3, 2), (0, 2, weights.shape[2] - 1)]:
            kept, errors = weights[place], []
            for change in (1e-5, -1e-5):
                weights[place] = kept + change
                errors.append(((d - network.step(x, context)[0]) ** 2).sum() / 2)
            weights[place] = kept
            gradient = (errors[0] - errors[1]) / 2e-5
            assert new[place] - kept == pytest.approx(-1e-3 * gradient, rel=1e-5, abs=1e-12)


def test_the_measure_of_the_last_symbol_but_one() -> None:
    strings = held_out_strings()
    coded = one_hot(strings.legal)

    def knows(inputs: np.ndarray) -> np.ndarray:
        return (
            np.concatenate([np.zeros_like(inputs[:, :1]), inputs], axis=1)[:, :1].repeat(inputs.shape[1], 1)
            + (inputs[:, 1:2])
        )

    assert last_but_one(knows, strings.legal) == 100
    assert last_but_one(knows, strings.wrong_end) == 100  # of what the second symbol asks for
    assert 40 < last_but_one(lambda inputs: np.roll(inputs, 1, axis=2) * 0 + coded[0, 1], strings.legal) < 60


def test_the_grammar() -> None:
    for string in ("BTXSE", "BPVVE", "BTSSXXTVVE", "BPTTVPXVVE"):
        assert is_legal(string)
    for string in ("", "B", "BTXSEE", "BTXTE", "TXSE", "BPVVX", "BTXS"):
        assert not is_legal(string)
    strings = held_out_strings()
    for string in strings.legal:
        assert is_legal(string[2:-2])
        assert string[1] == string[-2]
    for string in strings.wrong_end:
        assert is_legal(string[2:-2])
        assert string[1] != string[-2]
    for string in strings.damaged:
        assert not is_legal(string[2:-2])
        assert string[1] == string[-2]
