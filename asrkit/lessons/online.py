"""Networks that learn after each symbol: Elman's and Jordan's, and the LSTM by the truncated on-line rule.

Several networks (seeds) go step by step together, each on strings of its own. In the equations W, V are weights, v is
all that a layer sees, d the target, eta the learning rate, * goes element by element, and x' is the transpose of x.

Legend: S networks, N strings at once (1 in learning), D symbols, H hidden units or memory blocks, C context units.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

Carried: TypeAlias = list[np.ndarray]  # what goes from one step to the next, (S, ...) each


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layer(weights: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """W v for each network and string: weights (S, H, n), seen (S, N, n)."""
    return seen @ weights.swapaxes(-1, -2)


def transposed_product(delta: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """delta v': (S, N, H) and (S, N, n) give (S, H, n), summed over strings."""
    return delta.swapaxes(-1, -2) @ seen


def all_seen(*parts: np.ndarray) -> np.ndarray:
    """[inputs; context; 1]: the 1 carries the bias."""
    return np.concatenate([*parts, np.ones_like(parts[0][..., :1])], axis=-1)


class SimpleNetwork:
    """Elman's network (Elman 1990) and Jordan's (Jordan 1986), learnt step by step.

    For each symbol: set the input; compute; change the weights by the delta rule, as if the context were just another
    input; copy the hidden units (Elman) or the outputs (Jordan) into the context units. These start at 0.5.
    """

    def __init__(self, rngs: list[np.random.Generator], num_symbols: int, num_hidden: int, feeds_outputs_back: bool):
        num_context = num_symbols if feeds_outputs_back else num_hidden
        self.feeds_outputs_back = feeds_outputs_back
        self.context_shape = (num_context,)
        self.hidden = draw_weights(rngs, (num_hidden, num_symbols + num_context + 1))
        self.output = draw_weights(rngs, (num_symbols, num_hidden + 1))

    def initial(self, num_strings: int = 1) -> Carried:
        """[context]: all units at 0.5."""
        return [np.full((len(self.hidden), num_strings, *self.context_shape), 0.5)]

    def step(self, x: np.ndarray, carried: Carried) -> tuple[np.ndarray, Carried]:
        """The outputs (S, N, D) for inputs (S, N, D), and what is carried on. Nothing is learnt."""
        y, h, _ = self._forward(x, carried[0])
        return y, [y if self.feeds_outputs_back else h]

    def learn(self, x: np.ndarray, d: np.ndarray, carried: Carried, eta: float) -> Carried:
        """One step that changes the weights; gives what is carried on."""
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

    A memory block has one cell s and three gates. Gradients are cut where the blocks' outputs come back into gates and
    cells: h(t - 1) counts as a constant. What a weight does to a cell is carried forward from step to step instead, so
    that nothing of the past need be kept.
    """

    def __init__(self, rngs: list[np.random.Generator], num_symbols: int, num_blocks: int):
        shape = (num_blocks, num_symbols + num_blocks + 1)
        self.num_blocks = num_blocks
        # Input gates, forget gates, cell inputs, output gates: (S, 4, H, n)
        self.hidden = np.stack([draw_weights(rngs, shape) for _ in range(4)], axis=1)
        self.output = draw_weights(rngs, (num_symbols, num_blocks + 1))

    def initial(self, num_strings: int = 1) -> Carried:
        """[h, s, ds/dW]: all 0; ds/dW of input gates, forget gates and cell inputs, (S, 3, H, n)."""
        zeros = np.zeros((len(self.hidden), num_strings, self.num_blocks))
        return [zeros, zeros, np.zeros_like(self.hidden[:, :3])]

    def step(self, x: np.ndarray, carried: Carried) -> tuple[np.ndarray, Carried]:
        """The outputs (S, N, D) for inputs (S, N, D), and what is carried on. Nothing is learnt."""
        y, h, s, _ = self._forward(x, carried)
        return y, [h, s, carried[2]]

    def gradient(self, x: np.ndarray, d: np.ndarray, carried: Carried) -> tuple[np.ndarray, np.ndarray, Carried]:
        """Of one step: -dE / dW (S, 4, H, n) and -dE / dV, and what is carried on.

        E = 1/2 sum (d - y)^2 at this step alone.
        """
        y, h, s, (i, f, g, o, v) = self._forward(x, carried)
        _, s_before, derivatives = carried
        # ds/dW(t) = f * ds/dW(t - 1) + what W does at t, for W of the input gates, forget gates and cell inputs:
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
        """One step that changes the weights; gives what is carried on."""
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
    """(S, *shape), uniform in +-1/sqrt(7), each network's by its own generator."""
    return np.stack([rng.uniform(-1, 1, shape) / np.sqrt(7) for rng in rngs])


def run_strings(network: OnlineNetwork, inputs: np.ndarray) -> np.ndarray:
    """Outputs (S, N, T, D) for inputs (N, T, D)."""
    carried, outputs = network.initial(len(inputs)), []
    for x in inputs.swapaxes(0, 1):
        y, carried = network.step(np.broadcast_to(x, (len(network.output), *x.shape)), carried)
        outputs.append(y)
    return np.stack(outputs, axis=2)
