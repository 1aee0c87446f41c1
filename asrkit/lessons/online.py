"""Networks that learn after each symbol: Elman's and Jordan's, and the LSTM by the truncated on-line rule.

Several networks (seeds) run together, step by step; each has its own strings. In the equations W and V are weights, v
is everything that a layer sees, d is the target and eta the learning rate. * is elementwise, and x' is the transpose of
x.

Legend: S networks, N strings at once (1 for learning), D symbols, H hidden units or memory blocks, C context units.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Carried: TypeAlias = list[np.ndarray]  # values that pass from one step to the next, (S, ...) each


def sigmoid(x: np.ndarray) -> np.ndarray:
    """The logistic function of `x`; the shape stays."""
    return 1 / (1 + np.exp(-x))


def layer(weights: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """W v for each network and string: `weights` (S, H, n) times `seen` (S, N, n) is (S, N, H)."""
    return seen @ weights.swapaxes(-1, -2)


def transposed_product(delta: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """delta v', summed over strings: `delta` (S, N, H) and `seen` (S, N, n) give (S, H, n)."""
    return delta.swapaxes(-1, -2) @ seen


def all_seen(*parts: np.ndarray) -> np.ndarray:
    """[inputs; context; 1]: join `parts`, (S, N, n) each, and a 1 for the bias, on the last axis.

    The result is (S, N, sum of n + 1).
    """
    return np.concatenate([*parts, np.ones_like(parts[0][..., :1])], axis=-1)


class SimpleNetwork:
    """Elman's network (Elman 1990) and Jordan's (Jordan 1986), which learn step by step.

    For each symbol: set the input, and compute the outputs. Change the weights by the delta rule, as if the context
    were an ordinary input. Then copy the hidden units (Elman) or the outputs (Jordan) to the context units, which begin
    at 0.5.
    """

    def __init__(self, rngs: list[np.random.Generator], num_symbols: int, num_hidden: int, feeds_outputs_back: bool):
        num_context = num_symbols if feeds_outputs_back else num_hidden
        self.feeds_outputs_back = feeds_outputs_back
        self.context_shape = (num_context,)
        self.hidden = draw_weights(rngs, (num_hidden, num_symbols + num_context + 1))
        self.output = draw_weights(rngs, (num_symbols, num_hidden + 1))

    def initial(self, num_strings: int = 1) -> Carried:
        """[context]: all units are 0.5."""
        return [np.full((len(self.hidden), num_strings, *self.context_shape), 0.5)]

    def step(self, x: np.ndarray, carried: Carried) -> tuple[np.ndarray, Carried]:
        """The outputs (S, N, D) for the inputs `x` (S, N, D), and the values for the next step. Nothing is learnt."""
        y, h, _ = self._forward(x, carried[0])
        return y, [y if self.feeds_outputs_back else h]

    def learn(self, x: np.ndarray, d: np.ndarray, carried: Carried, eta: float) -> Carried:
        """One step that changes the weights, with inputs `x` and targets `d`, (S, 1, D) each.

        Returns the values for the next step.
        """
        y, h, v = self._forward(x, carried[0])
        delta_y = (d - y) * y * (1 - y)  # delta_y = (d - y) * y * (1 - y)
        delta_h = (delta_y @ self.output[..., :-1]) * h * (1 - h)  # delta_h = V' delta_y * h * (1 - h)
        self.output += eta * transposed_product(delta_y, all_seen(h))  # V <- V + eta delta_y [h; 1]'
        self.hidden += eta * transposed_product(delta_h, v)  # W <- W + eta delta_h v'
        return [y if self.feeds_outputs_back else h]  # copy: context(t + 1) = h(t), or y(t)

    def _forward(self, x: np.ndarray, context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        v = all_seen(x, context)  # v(t) = [x(t); context(t); 1]
        h = sigmoid(layer(self.hidden, v))  # h(t) = sigmoid(W v(t))
        y = sigmoid(layer(self.output, all_seen(h)))  # y(t) = sigmoid(V [h(t); 1])
        return y, h, v


class OnlineLstm:
    """The LSTM with forget gates, learnt by the truncated on-line rule (Gers, Schmidhuber and Cummins 2000).

    A memory block has one cell s and three gates. Gradients are cut where the outputs of the blocks return to gates and
    cells: there h(t - 1) counts as a constant. The effect of a weight on a cell is carried forward from step to step.
    So no values of past steps need to be stored.
    """

    def __init__(self, rngs: list[np.random.Generator], num_symbols: int, num_blocks: int):
        shape = (num_blocks, num_symbols + num_blocks + 1)
        self.num_blocks = num_blocks
        # Input gates, forget gates, cell inputs and output gates: (S, 4, H, n)
        self.hidden = np.stack([draw_weights(rngs, shape) for _ in range(4)], axis=1)
        self.output = draw_weights(rngs, (num_symbols, num_blocks + 1))

    def initial(self, num_strings: int = 1) -> Carried:
        """[h, s, ds/dW], all 0. ds/dW is for input gates, forget gates and cell inputs, (S, 3, H, n)."""
        zeros = np.zeros((len(self.hidden), num_strings, self.num_blocks))
        return [zeros, zeros, np.zeros_like(self.hidden[:, :3])]

    def step(self, x: np.ndarray, carried: Carried) -> tuple[np.ndarray, Carried]:
        """The outputs (S, N, D) for the inputs `x` (S, N, D), and the values for the next step. Nothing is learnt."""
        y, h, s, _ = self._forward(x, carried)
        return y, [h, s, carried[2]]

    def gradient(self, x: np.ndarray, d: np.ndarray, carried: Carried) -> tuple[np.ndarray, np.ndarray, Carried]:
        """-dE / dW (S, 4, H, n) and -dE / dV (S, D, H + 1) of one step, and the values for the next step.

        E = 1/2 sum (d - y)^2 at this step only. `x` and `d` are (S, 1, D): inputs and targets.
        """
        y, h, s, (i, f, g, o, v) = self._forward(x, carried)
        _, s_before, derivatives = carried
        # ds/dW(t) = f * ds/dW(t - 1) + the effect of W at t, for W of the input gates, forget gates and cell inputs:
        at_t = np.stack([g * i * (1 - i), s_before * f * (1 - f), i * (1 - g * g)], axis=1)  # (S, 3, 1, H)
        derivatives = f[:, :, :, None] * derivatives + at_t.swapaxes(2, 3) * v[:, None]
        delta_y = (d - y) * y * (1 - y)  # delta_y = (d - y) * y * (1 - y)
        error_h = delta_y @ self.output[..., :-1]  # error_h = V' delta_y
        tanh_s = np.tanh(s)
        delta_o = error_h * tanh_s * o * (1 - o)  # delta_o = error_h * tanh(s) * o * (1 - o)
        error_s = error_h * o * (1 - tanh_s * tanh_s)  # error_s = error_h * o * (1 - tanh(s)^2)
        of_cells = error_s[:, :, :, None] * derivatives  # -dE/dW = error_s * ds/dW
        of_output_gates = transposed_product(delta_o, v)  # -dE/dW_o = delta_o v'
        of_outputs = transposed_product(delta_y, all_seen(h))  # -dE/dV = delta_y [h; 1]'
        of_hidden = np.concatenate([of_cells, of_output_gates[:, None]], axis=1)
        return of_hidden, of_outputs, [h, s, derivatives]

    def learn(self, x: np.ndarray, d: np.ndarray, carried: Carried, eta: float) -> Carried:
        """One step that changes the weights, with inputs `x` and targets `d`, (S, 1, D) each.

        Returns the values for the next step.
        """
        of_hidden, of_outputs, carried = self.gradient(x, d, carried)
        self.hidden += eta * of_hidden  # W <- W - eta dE/dW
        self.output += eta * of_outputs  # V <- V - eta dE/dV
        return carried

    def _forward(
        self, x: np.ndarray, carried: Carried
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        h_before, s_before, _ = carried
        v = all_seen(x, h_before)  # v(t) = [x(t); h(t - 1); 1]
        sums = layer(self.hidden, v[:, None])
        i, f, o = sigmoid(sums[:, 0]), sigmoid(sums[:, 1]), sigmoid(sums[:, 3])  # i, f, o = sigmoid(W v(t))
        g = np.tanh(sums[:, 2])  # g = tanh(W v(t))
        s = f * s_before + i * g  # s(t) = f * s(t - 1) + i * g
        h = o * np.tanh(s)  # h(t) = o * tanh(s(t))
        y = sigmoid(layer(self.output, all_seen(h)))  # y(t) = sigmoid(V [h(t); 1])
        return y, h, s, (i, f, g, o, v)


OnlineNetwork: TypeAlias = SimpleNetwork | OnlineLstm


def draw_weights(rngs: list[np.random.Generator], shape: tuple[int, ...]) -> np.ndarray:
    """Weights (S, *shape), uniform in +-1/sqrt(7), so (S, H, n) for a layer. Each network has its own generator."""
    return np.stack([rng.uniform(-1, 1, shape) / np.sqrt(7) for rng in rngs])


def run_strings(network: OnlineNetwork, inputs: np.ndarray) -> np.ndarray:
    """Outputs (S, N, T, D) for `inputs` (N, T, D)."""
    carried, outputs = network.initial(len(inputs)), []
    for x in inputs.swapaxes(0, 1):
        y, carried = network.step(np.broadcast_to(x, (len(network.output), *x.shape)), carried)
        outputs.append(y)
    return np.stack(outputs, axis=2)
