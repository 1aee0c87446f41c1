"""Lesson 3: what truncated back-propagation through time loses, and how random cuts avoid bias.

The gradient of a recurrent network is a sum over the past. If it is cut after tau steps, the older part is missing, so
the gradient is biased. If it is cut at random, and the rest is scaled up, it is right on average, but has a variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from asrkit.lessons.lesson import COLORS, Lesson, plots

NUM_HIDDEN, NUM_INPUTS, NUM_STEPS = 6, 2, 60
TAUS = (1, 2, 4, 8, 16, 32)


class Task:
    """An Elman network with tanh and an input, and the loss L = 1/2 |h(T) - target|^2 at the last step.

    Legend: H hidden units, T steps, P weights, K random draws.
    """

    def __init__(self, seed: int, singular_value: float):
        rng = np.random.default_rng(seed)
        orthogonal = np.linalg.qr(rng.normal(size=(NUM_HIDDEN, NUM_HIDDEN)))[0]
        self.recurrent = singular_value * orthogonal  # U
        self.inner = rng.normal(size=(NUM_HIDDEN, NUM_INPUTS)) * 0.3  # W
        self.inputs = rng.normal(size=(NUM_STEPS, NUM_INPUTS))
        self.target = rng.normal(size=NUM_HIDDEN)

    def gradient(self, keep: np.ndarray) -> np.ndarray:
        """dL/dw, (K, P), carried forward with the factors `keep` (K, T), called xi.

        With xi = 1 this is the full gradient. With xi(t) = 0, nothing before t counts.
        """
        h = np.zeros(NUM_HIDDEN)
        z = np.zeros((len(keep), NUM_HIDDEN, NUM_HIDDEN * (NUM_HIDDEN + NUM_INPUTS)))  # dh/dw
        for x, xi in zip(self.inputs, keep.T, strict=True):
            seen = np.concatenate([h, x])
            h = np.tanh(self.recurrent @ h + self.inner @ x)  # h(t) = tanh(U h(t - 1) + W x(t))
            slope = 1 - h * h  # tanh' = 1 - tanh^2
            df_dw = np.kron(np.diag(slope), seen)  # df/dw, (H, P): h_k depends on row k of [U W] only
            df_dh = slope[:, None] * self.recurrent  # df/dh(t - 1) = diag(tanh') U
            z = df_dw + xi[:, None, None] * (df_dh @ z)  # z(t) = df/dw + xi(t) df/dh z(t - 1)
        return (h - self.target) @ z  # dL/dw = dL/dh(T) z(T)


def study(quick: bool) -> Lesson:
    """Make the lesson's table, figures and pictures."""
    num_draws = 1_000 if quick else 5_000
    task = Task(seed=5, singular_value=0.97)
    (full,) = task.gradient(np.ones((1, NUM_STEPS)))
    size = float(np.linalg.norm(full))
    biases = [float(np.linalg.norm(task.gradient(cut_at(tau))[0] - full)) / size for tau in TAUS]
    rng = np.random.default_rng(0)
    random = {}
    for tau in TAUS[1:]:  # the mean number of steps that are kept is about tau
        xi = random_cuts(1 - 1 / tau, num_draws, rng)
        estimates = task.gradient(xi)
        off = estimates - full
        bias = float(np.linalg.norm(off.mean(axis=0))) / size
        deviation = float(np.sqrt((off**2).sum(axis=1).mean())) / size
        random[tau] = {
            "bias": bias,
            "chance": deviation / float(np.sqrt(num_draws)),  # expected error of the mean of that many unbiased draws
            "deviation": deviation,
        }
    table = [["cut", "bias, %", "deviation of one draw, %", "bias by chance, %"]]
    table.append(["never", "0.0", "0.0", "0.0"])
    table += [[f"after {tau} steps", f"{100 * bias:.1f}", "0.0", "0.0"] for tau, bias in zip(TAUS, biases, strict=True)]
    for tau, each in random.items():
        cells = (each["bias"], each["deviation"], each["chance"])
        table.append([f"at random, after {tau} on average", *(f"{100 * cell:.1f}" for cell in cells)])
    figures = {
        "truncated_bias": dict(zip(map(str, TAUS), biases, strict=True)),
        "random": {str(tau): each for tau, each in random.items()},
    }
    return Lesson(table, figures, {"truncation": draw(biases, random)})


def cut_at(tau: int) -> np.ndarray:
    """xi (1, T) of truncated BPTT: only the last `tau` steps count."""
    xi = np.ones((1, NUM_STEPS))
    xi[0, NUM_STEPS - tau] = 0
    return xi


def random_cuts(probability: float, num_draws: int, rng: np.random.Generator) -> np.ndarray:
    """xi (K, T): 1 / pi with probability pi, otherwise 0, so that E[xi] = 1."""
    return (rng.random((num_draws, NUM_STEPS)) < probability) / probability


def draw(biases: Sequence[float], random: dict[int, dict[str, float]]) -> Figure:
    """Draw bias and deviation over the number of steps that are kept."""
    figure, both = plots(1, 2, height=4.0)
    lengths = [*random]
    both[0].plot(TAUS, 100 * np.array(biases), "o-", color=COLORS[0], label="cut after τ steps")
    shown = 100 * np.array([each["bias"] for each in random.values()])
    both[0].plot(lengths, shown, "s--", color=COLORS[1], label="cut at random, mean of all draws")
    both[0].set(title="Bias: the mean is off by", ylabel="% of the full gradient's norm")
    both[1].plot(TAUS, np.zeros(len(TAUS)), "o-", color=COLORS[0], label="cut after τ steps")
    shown = 100 * np.array([each["deviation"] for each in random.values()])
    both[1].plot(lengths, shown, "s--", color=COLORS[1], label="cut at random, one draw")
    both[1].set(title="Deviation: one draw is off by", ylabel="% of the full gradient's norm")
    both[1].set_yscale("symlog", linthresh=10)
    for axes in both:
        axes.set_xscale("log", base=2)
        axes.set_xticks(TAUS, [str(tau) for tau in TAUS])
        axes.set_xlabel("steps kept, τ, or their mean")
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure
