"""Lesson 2: gradients that vanish and gradients that explode; how gates and clipping help.

Legend: T steps, N sequences at once, H hidden units, D inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from asrkit.drawing import draw_norms as draw_norms_over_time
from asrkit.lessons.lesson import COLORS, Lesson, draw_line, plots

NUM_HIDDEN, NUM_STEPS = 24, 80
ELMAN, GRU, LSTM, OLD_LSTM = "Elman", "GRU", "LSTM", "LSTM without forget gate"
State = tuple[Tensor, Tensor]  # h and s, (H,) each; Elman and GRU do not use s
Weights = Mapping[str, tuple[Tensor, Tensor]]  # letter of a gate -> W (H, D) and U (H, H)


def elman(x: Tensor, state: State, weights: Weights) -> State:
    """One step of Elman's network, from the input `x` (D,)."""
    w, u = weights["h"]
    return torch.tanh(w @ x + u @ state[0]), state[1]  # h(t) = tanh(W x(t) + U h(t - 1))


def gru(x: Tensor, state: State, weights: Weights) -> State:
    """One step of a GRU, from the input `x` (D,)."""
    before, (w, u) = state[0], weights["h"]
    r, z = (
        torch.sigmoid(weights[gate][0] @ x + weights[gate][1] @ before) for gate in "rz"
    )  # r, z = sigmoid(W x + U h)
    n = torch.tanh(w @ x + r * (u @ before))  # n = tanh(W x + r * U h(t - 1))
    return (1 - z) * n + z * before, state[1]  # h(t) = (1 - z) * n + z * h(t - 1)


def lstm(x: Tensor, state: State, weights: Weights) -> State:
    """One step of an LSTM, from the input `x` (D,)."""
    i, f, g, o = (weights[gate][0] @ x + weights[gate][1] @ state[0] for gate in "ifho")
    s = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)  # s(t) = f * s(t - 1) + i * g
    return torch.sigmoid(o) * torch.tanh(s), s  # h(t) = o * tanh(s(t))


def old_lstm(x: Tensor, state: State, weights: Weights) -> State:
    """One step of the LSTM of 1997, from the input `x` (D,). It has no forget gate, so its cell keeps everything."""
    i, g, o = (weights[gate][0] @ x + weights[gate][1] @ state[0] for gate in "iho")
    s = state[1] + torch.sigmoid(i) * torch.tanh(g)  # s(t) = s(t - 1) + i * g
    return torch.sigmoid(o) * torch.tanh(s), s


CELLS: dict[str, Callable[[Tensor, State, Weights], State]] = {
    ELMAN: elman,
    GRU: gru,
    LSTM: lstm,
    OLD_LSTM: old_lstm,
}


def gradient_norms(cell: str, singular_value: float, seed: int) -> np.ndarray:
    """|dL(T) / d h(t)| for t = 0 to T in an untrained network, (T + 1,). L = c' h(T) with a random c.

    All singular values of each recurrent matrix U are `singular_value`.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weights = {
        gate: (0.1 * normal(NUM_HIDDEN, 2), singular_value * torch.linalg.qr(normal(NUM_HIDDEN, NUM_HIDDEN))[0])
        for gate in "hrzifo"
    }
    h = torch.zeros(NUM_HIDDEN, dtype=torch.float64, requires_grad=True)
    state, hiddens = (h, torch.zeros_like(h)), [h]
    for x in normal(NUM_STEPS, 2):
        state = CELLS[cell](x, state, weights)
        hiddens.append(state[0])
    loss = normal(NUM_HIDDEN) @ state[0]
    return np.array([float(gradient.norm()) for gradient in torch.autograd.grad(loss, hiddens)])


def factor_per_step(norms: np.ndarray) -> float:
    """The average factor by which the gradient changes in one step back, between T and 0. `norms` is (T + 1,)."""
    return float((norms[0] / norms[-1]) ** (1 / NUM_STEPS))


class Adder(nn.Module):
    """One recurrent layer of PyTorch that outputs a number at the end of a sequence."""

    def __init__(self, cell: str, num_hidden: int):
        super().__init__()
        makers: dict[str, type[nn.RNN | nn.LSTM | nn.GRU]] = {ELMAN: nn.RNN, GRU: nn.GRU}
        self.rnn = makers.get(cell, nn.LSTM)(2, num_hidden)
        self.output = nn.Linear(num_hidden, 1)
        self.num_hidden, self.keeps_all = num_hidden, cell == OLD_LSTM
        self.hold_forget_gate()

    @torch.no_grad()
    def hold_forget_gate(self) -> None:
        """Set the biases of an LSTM's forget gates to 1, so that it keeps its memory at first (Jozefowicz et al. 2015).

        For an LSTM without forget gates, this holds them at 1: their weights are 0, and their bias is so large that the
        sigmoid is 1.
        """
        if not isinstance(self.rnn, nn.LSTM):
            return
        forget = slice(self.num_hidden, 2 * self.num_hidden)  # the second of the four gates
        weights = dict(self.rnn.named_parameters())
        weights["bias_ih_l0"][forget] = 40.0 if self.keeps_all else 1.0
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0"):
            weights[name][forget] *= not self.keeps_all

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the sums (N,) from `inputs` (T, N, 2)."""
        return self.output(self.rnn(inputs)[0][-1])[:, 0]


def adding_problem(lag: int, num_sequences: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random numbers between 0 and 1, two of them marked, `lag` steps apart. The task is their sum (Hochreiter 1997).

    Returns:
        Inputs (T, N, 2), number and mark, and sums (N,). T is `lag` + 10. The first mark is among the first ten
        numbers.
    """
    inputs = np.zeros((lag + 10, num_sequences, 2))
    inputs[..., 0] = rng.random(inputs.shape[:2])
    first = rng.integers(10, size=num_sequences)
    every = np.arange(num_sequences)
    inputs[first, every, 1] = inputs[first + lag, every, 1] = 1
    sums = inputs[first, every, 0] + inputs[first + lag, every, 0]
    return torch.tensor(inputs, dtype=torch.float32), torch.tensor(sums, dtype=torch.float32)


def learn_adding(cell: str, lag: int, num_updates: int) -> list[float]:
    """Train a network.

    Returns the mean square error of each tenth of the updates. Always answering 1 has an error of 1/6.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Adder(cell, 16)
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(num_updates):
        inputs, sums = adding_problem(lag, 20, rng)
        loss = ((network(inputs) - sums) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if network.keeps_all:
            network.hold_forget_gate()
        losses.append(float(loss.detach()))
    return [float(np.mean(part)) for part in np.array_split(losses, 10)]


class OneUnit:
    """One unit that feeds itself, and the loss L = (sigmoid(h(T)) - 0.7)^2, T = 50 (Pascanu et al. 2013).

    The loss over its two weights w and b is a landscape with a cliff. On one side of it the unit ends high, on the
    other low.
    """

    def loss_and_gradient(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """L and dL/d(w, b), (2,), at `point`, which is (w, b) of shape (2,). The derivatives are carried forward."""
        w, b = point
        h, slope = 0.5, np.zeros(2)  # h(0), and dh/d(w, b)
        for _ in range(50):
            y = 1 / (1 + np.exp(-h))  # y(t) = sigmoid(h(t))
            slope = np.array([y, 1.0]) + w * y * (1 - y) * slope  # dh/dw(t + 1) = y + w y (1 - y) dh/dw(t); db: 1 + ...
            h = w * y + b  # h(t + 1) = w y(t) + b
        y = 1 / (1 + np.exp(-h))
        return float((y - 0.7) ** 2), 2 * (y - 0.7) * y * (1 - y) * slope


def clip_by_norm(gradient: np.ndarray, most: float) -> np.ndarray:
    """Scale `gradient`, (n,), to a norm of at most `most`. The result is (n,)."""
    return gradient * min(1.0, most / max(float(np.linalg.norm(gradient)), 1e-12))  # g <- g most / |g|, if |g| > most


def clip_by_value(gradient: np.ndarray, most: float) -> np.ndarray:
    """Limit each component of `gradient`, (n,), to +-`most`. The result is (n,)."""
    return np.clip(gradient, -most, most)  # g_i <- most or -most, if beyond: this turns the gradient


def descend(clip: Callable[[np.ndarray], np.ndarray], start: Sequence[float], num_steps: int) -> np.ndarray:
    """Gradient descent with a learning rate of 0.5. Returns all points (w, b), (num_steps + 1, 2).

    `clip` changes each gradient, of shape (2,), before the step.
    """
    way = [np.array(start)]
    for _ in range(num_steps):
        _, gradient = OneUnit().loss_and_gradient(way[-1])
        way.append(way[-1] - 0.5 * clip(gradient))
    return np.array(way)


SINGULAR_VALUES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0)
SEEDS = (0, 1, 2)
START, NUM_DESCENTS = (6.0, -2.2), 120


def study(quick: bool) -> Lesson:
    """Make the lesson's table, figures and pictures."""
    lags, num_updates = ((20,), 400) if quick else ((50, 100, 200), 600)
    return results({cell: {lag: learn_adding(cell, lag, num_updates) for lag in lags} for cell in CELLS})


def results(adding: Mapping[str, Mapping[int, Sequence[float]]]) -> Lesson:
    """Make the lesson from the square errors of the adding problem, by cell and lag."""
    norms = {cell: gradient_norms(cell, 0.85, seed=0) for cell in CELLS}
    factors = {
        cell: [
            float(np.mean([factor_per_step(gradient_norms(cell, value, seed)) for seed in SEEDS]))
            for value in SINGULAR_VALUES
        ]
        for cell in CELLS
    }
    clips: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "not clipped": lambda gradient: gradient,
        "clipped by norm": lambda gradient: clip_by_norm(gradient, 0.1),
        "clipped by value": lambda gradient: clip_by_value(gradient, 0.1),
    }
    ways = {name: descend(clip, START, NUM_DESCENTS) for name, clip in clips.items()}
    table = [["cell", "left after 80 steps", *(f"error, lag {lag}" for lag in adding[ELMAN])]]
    for cell in CELLS:
        left = norms[cell][0] / norms[cell][-1]
        table.append([cell, f"{left:.1e}", *(f"{errors[-1]:.3f}" for errors in adding[cell].values())])
    figures = {
        "left_after_all_steps": {cell: float(each[0] / each[-1]) for cell, each in norms.items()},
        "factor_per_step": {
            cell: dict(zip(map(str, SINGULAR_VALUES), each, strict=True)) for cell, each in factors.items()
        },
        "longest_step": {name: float(np.linalg.norm(np.diff(way, axis=0), axis=1).max()) for name, way in ways.items()},
        "lowest_loss": {name: min(OneUnit().loss_and_gradient(p)[0] for p in way) for name, way in ways.items()},
        "last_loss": {name: OneUnit().loss_and_gradient(way[-1])[0] for name, way in ways.items()},
        "adding": {cell: {str(lag): [*errors] for lag, errors in each.items()} for cell, each in adding.items()},
    }
    pictures = {
        "gradients-norms": draw_norms(norms, factors),
        "gradients-clipping": draw_clipping(ways),
        "gradients-adding": draw_adding(adding),
    }
    return Lesson(table, figures, pictures)


def draw_norms(norms: Mapping[str, np.ndarray], factors: Mapping[str, Sequence[float]]) -> Figure:
    """Draw gradient norms over time, and the factor per step over the largest singular value.

    `norms` has (T + 1,) per cell.
    """
    figure, both = plots(1, 2, height=4.2)
    draw_norms_over_time(both[0], norms, last=NUM_STEPS)
    for which, cell in enumerate(CELLS):
        draw_line(both[1], SINGULAR_VALUES, factors[cell], which, cell)
    both[0].set(
        title="Singular values 0.85",
        xlabel="step t of h(t)",
        ylabel="|dL(80) / dh(t)|, 1 at t = 80",
    )
    both[1].plot(SINGULAR_VALUES, SINGULAR_VALUES, color="0.7", linewidth=0.8)
    both[1].axhline(1, color="0.7", linewidth=0.8)
    both[1].text(1.36, 1.42, "factor = value", color="0.4", ha="right")
    both[1].set(
        title="What a step back does",
        xlabel="largest singular value of U",
        ylabel="factor per step back",
        ylim=(0.4, 1.6),
    )
    for axes in both:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False, fontsize=9)
    return figure


def draw_clipping(ways: Mapping[str, np.ndarray]) -> Figure:
    """Draw the cliff and three ways of descent, `ways` (num_steps + 1, 2): with and without clipping."""
    figure, (near, far) = plots(1, 2, height=4.4)
    w, b = np.linspace(3.7, 6.3, 60), np.linspace(-3.1, -1.4, 60)
    losses = [[OneUnit().loss_and_gradient(np.array([x, y]))[0] for x in w] for y in b]
    filled = near.contourf(w, b, losses, levels=12, cmap="Greys", alpha=0.8)
    figure.colorbar(filled, ax=near, label="loss L", location="top", format="%.2f")
    for which, (name, way) in enumerate(ways.items()):
        for axes in (near, far):
            draw_line(axes, way[:, 0], way[:, 1], which, name)
            axes.plot(*way[-1], "o", color=COLORS[which])
    near.set(xlim=(w[0], w[-1]), ylim=(b[0], b[-1]), xlabel="weight w", ylabel="bias b")
    far.set(title="The same ways, from farther off", xlabel="weight w", ylabel="bias b")
    for axes in (near, far):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False, fontsize=9)
    return figure


def draw_adding(adding: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Draw the square errors of the adding problem over the updates, one plot per lag."""
    lags = [*adding[ELMAN]]
    figure, all_axes = plots(1, len(lags), height=3.8)
    for axes, lag in zip(all_axes, lags, strict=True):
        for which, cell in enumerate(CELLS):
            errors = adding[cell][lag]
            draw_line(axes, np.arange(1, len(errors) + 1) / len(errors), errors, which, cell)
        axes.axhline(1 / 6, color="0.6", linewidth=0.8)
        axes.set(title=f"lag {lag}", xlabel="part of the updates", yscale="log", ylim=(1e-3, 0.5))
    all_axes[0].set_ylabel("mean square error")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure
