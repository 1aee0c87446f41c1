"""Lesson 7, second part: series of numbers, and how far ahead they can be predicted.

A network predicts the next value. For later values it runs in a closed loop: its own predictions replace the values
that are not known yet.

Legend: N series or starting points, T steps, H steps ahead, P lags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from asrkit.corpora import espeak, persian
from asrkit.corpora.mini import rng_of, to_mnemonics
from asrkit.lessons.lesson import COLORS, draw_line, plots

NUM_LAGS, NUM_HIDDEN = 4, 16
HORIZON = 12
WARM_UP = 60  # steps that Elman's network reads before the closed loop
NAIVE, LINEAR, NARX, ELMAN = "last value", "linear", "NARX", "Elman"


@dataclass(frozen=True)
class Series:
    """A series, standardised with the mean and deviation of its first part, which is for learning.

    Attributes:
        outputs: y (T,).
        inputs: u (T,), which are also known in advance; zeros if there are none. u(t) acts on y(t + 1).
        num_learnt: steps of the first part.
    """

    outputs: np.ndarray
    inputs: np.ndarray
    num_learnt: int

    @classmethod
    def of(cls, outputs: np.ndarray, inputs: np.ndarray) -> Series:
        """Standardise a series, `outputs` (T,) and `inputs` (T,). The first two thirds are for learning."""
        num_learnt = len(outputs) * 2 // 3
        known = outputs[:num_learnt]
        return cls((outputs - known.mean()) / known.std(), inputs, num_learnt)


def plant(num_steps: int, rng: np.random.Generator) -> Series:
    """A nonlinear system of second order with random input, like those of Narendra and Parthasarathy (1990)."""
    u = np.repeat(rng.uniform(-1, 1, num_steps // 4 + 1), 4)[:num_steps]  # held for four steps
    y = np.zeros(num_steps)
    for t in range(1, num_steps - 1):
        # y(t + 1) = 1.8 y(t) / (1 + y(t)^2) + 0.4 y(t) - 0.7 y(t - 1) + 0.3 u(t)
        y[t + 1] = 1.8 * y[t] / (1 + y[t] ** 2) + 0.4 * y[t] - 0.7 * y[t - 1] + 0.3 * u[t]
    return Series.of(y, u)


def energy(num_sentences: int) -> Series:
    """The energy of speech by espeak-ng, in dB per frame of 10 ms. There is no input.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
    """
    sentences = persian.make_sentences(num_sentences, rng_of(7, "lesson"), set())
    prompts = [espeak.Prompt(to_mnemonics(tuple(words)), rate=170, pitch=50, range=50) for words in sentences]
    speech = espeak.synthesize("fa", "Alex", prompts)
    samples = np.concatenate([np.frombuffer(each.samples, np.int16) for each in speech]).astype(np.float64)
    size = espeak.SAMPLE_RATE // 100
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    decibels = 10 * np.log10(np.mean(frames**2, axis=1) + 1)  # E(t) = 10 log10(mean x^2 + 1)
    return Series.of(decibels, np.zeros(len(decibels)))


class Narx(nn.Module):
    """y(t + 1) = f(y(t), ..., y(t - P + 1), u(t), ..., u(t - P + 1)): a window of past values is the input."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * NUM_LAGS, NUM_HIDDEN)
        self.output = nn.Linear(NUM_HIDDEN, 1)

    def forward(self, seen: Tensor) -> Tensor:
        """Predict the next values (N,) from windows `seen` (N, 2 P) of y and of u."""
        return self.output(torch.tanh(self.hidden(seen)))[..., 0]  # f(v) = b' tanh(A v)


class Elman(nn.Module):
    """h(t) = tanh(W [y(t); u(t)] + U h(t - 1)), y(t + 1) = V h(t): the context units hold the past."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, NUM_HIDDEN, batch_first=True)
        self.output = nn.Linear(NUM_HIDDEN, 1)

    def forward(self, seen: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Predict the next values (N, T) from y and u, `seen` (N, T, 2).

        `h` (1, N, hidden) are the first context units.

        Returns also the last context units (1, N, hidden).
        """
        hidden, h = self.rnn(seen, h)
        return self.output(hidden)[..., 0], h


def windows(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The last P values of `values` (T,) at each of the places `at` (N,), the newest first: (N, P)."""
    return values[at[:, None] - np.arange(NUM_LAGS)]


def closed_loop(step: Callable[[np.ndarray], np.ndarray], series: Series, starts: np.ndarray) -> np.ndarray:
    """Predict the next H values (N, H) after each of `starts` (N,).

    `step` predicts next values (N,) from windows (N, 2 P).
    """
    known, told = windows(series.outputs, starts), []
    for ahead in range(HORIZON):
        told.append(step(np.concatenate([known, windows(series.inputs, starts + ahead)], axis=1)))
        known = np.concatenate([told[-1][:, None], known[:, :-1]], axis=1)  # its own prediction replaces y(t + 1)
    return np.stack(told, axis=1)


def with_one(seen: np.ndarray) -> np.ndarray:
    """Append a column of ones to `seen` (N, n): (N, n + 1)."""
    return np.concatenate([seen, np.ones((len(seen), 1))], axis=1)


def by_last_value(series: Series, starts: np.ndarray) -> np.ndarray:
    """Predict that nothing changes: (N, H) for `starts` (N,)."""
    return np.repeat(series.outputs[starts, None], HORIZON, axis=1)  # y(t + k) = y(t)


def by_linear_model(series: Series, starts: np.ndarray) -> np.ndarray:
    """Predict with a linear model of the same window, fitted by least squares: (N, H) for `starts` (N,)."""
    at = np.arange(NUM_LAGS - 1, series.num_learnt - 1)
    seen = np.concatenate([windows(series.outputs, at), windows(series.inputs, at)], axis=1)
    weights = np.linalg.lstsq(with_one(seen), series.outputs[at + 1])[0]  # min_a |y(t + 1) - a' [v(t); 1]|^2
    return closed_loop(lambda seen: with_one(seen) @ weights, series, starts)  # y(t + 1) = a' [v(t); 1]


def by_narx(series: Series, starts: np.ndarray, seed: int, num_updates: int) -> np.ndarray:
    """Predict with a NARX network, which learns to predict one step ahead: (N, H) for `starts` (N,)."""
    network = made(Narx, seed)
    at = np.arange(NUM_LAGS - 1, series.num_learnt - 1)
    seen = tensor(np.concatenate([windows(series.outputs, at), windows(series.inputs, at)], axis=1))
    targets = tensor(series.outputs[at + 1])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(num_updates):
        descend(((network(seen) - targets) ** 2).mean(), optimizer)
    with torch.no_grad():
        return closed_loop(lambda seen: network(tensor(seen)).double().numpy(), series, starts)


def by_elman(series: Series, starts: np.ndarray, seed: int, num_updates: int) -> np.ndarray:
    """Predict with Elman's network, which learns to predict one step ahead by BPTT: (N, H) for `starts` (N,)."""
    network, rng = made(Elman, seed), np.random.default_rng(seed)
    both = tensor(np.stack([series.outputs, series.inputs], axis=1))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(num_updates):
        begins = rng.integers(series.num_learnt - WARM_UP, size=32)
        pieces = torch.stack([both[begin : begin + WARM_UP] for begin in begins])
        told, _ = network(pieces[:, :-1])
        descend(((told - pieces[:, 1:, 0]) ** 2).mean(), optimizer)
    with torch.no_grad():
        return elman_closed_loop(network, both, starts)


def elman_closed_loop(network: Elman, both: Tensor, starts: np.ndarray) -> np.ndarray:
    """Predict the next H values (N, H) after each of `starts` (N,). `both` has y and u, (T, 2)."""
    told, h = network(torch.stack([both[start + 1 - WARM_UP : start + 1] for start in starts]))
    ahead = [told[:, -1]]
    for k in range(1, HORIZON):
        own = torch.stack([ahead[-1], both[starts + k, 1]], dim=1)  # its own prediction of y(t + k), and u(t + k)
        told, h = network(own[:, None], h)
        ahead.append(told[:, 0])
    return torch.stack(ahead, dim=1).double().numpy()


Network = TypeVar("Network", bound=nn.Module)


def made(kind: Callable[[], Network], seed: int) -> Network:
    """Make a network with the initial weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


def tensor(values: np.ndarray) -> Tensor:
    """`values` as a float32 tensor of the same shape."""
    return torch.tensor(values, dtype=torch.float32)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of gradient descent on `loss`, a scalar."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@dataclass(frozen=True)
class Forecasts:
    """Predictions of a series, and its true values.

    Attributes:
        true: (N, H).
        told: predictor -> predictions (N, H) per seed; one entry if the predictor is not random.
    """

    true: np.ndarray
    told: Mapping[str, Sequence[np.ndarray]]

    def errors(self, predictor: str) -> np.ndarray:
        """Root mean square errors (seeds, H), in standard deviations of the series."""
        told = np.stack(self.told[predictor])
        return np.sqrt(np.mean((told - self.true) ** 2, axis=1))  # e(k) = sqrt(mean (told - true)^2), k steps ahead


def forecast(series: Series, seeds: Sequence[int], num_updates: int) -> Forecasts:
    """Run all predictors, 1 to H steps ahead, from each step of the second part."""
    starts = np.arange(series.num_learnt + WARM_UP, len(series.outputs) - HORIZON)
    true = series.outputs[starts[:, None] + np.arange(1, HORIZON + 1)]
    told = {
        NAIVE: [by_last_value(series, starts)],
        LINEAR: [by_linear_model(series, starts)],
        NARX: [by_narx(series, starts, seed, num_updates) for seed in seeds],
        ELMAN: [by_elman(series, starts, seed, num_updates) for seed in seeds],
    }
    return Forecasts(true, told)


def draw_errors(forecasts: Mapping[str, Forecasts]) -> Figure:
    """Draw the error over the number of steps ahead, one plot per series."""
    figure, all_axes = plots(1, len(forecasts), height=4.0)
    steps = np.arange(1, HORIZON + 1)
    for axes, (title, each) in zip(all_axes, forecasts.items(), strict=True):
        for which, predictor in enumerate(each.told):
            errors = each.errors(predictor)
            draw_line(axes, steps, errors.mean(axis=0), which, predictor)
            axes.fill_between(steps, errors.min(axis=0), errors.max(axis=0), color=COLORS[which], alpha=0.2, lw=0)
        axes.axhline(1, color="0.6", linewidth=0.8)
        axes.set(title=title, xlabel="steps ahead", ylim=(0, None), xticks=range(2, HORIZON + 1, 2))
    all_axes[0].set_ylabel("error, standard deviations")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_examples(forecasts: Mapping[str, Forecasts], which: int) -> Figure:
    """Draw true and predicted values after one step, one plot per series."""
    figure, all_axes = plots(1, len(forecasts), height=3.6)
    steps = np.arange(1, HORIZON + 1)
    for axes, (title, each) in zip(all_axes, forecasts.items(), strict=True):
        axes.plot(steps, each.true[which], "o-", color="black", label="what came")
        for color, predictor in enumerate(each.told):
            draw_line(axes, steps, each.told[predictor][0][which], color, predictor)
        axes.set(title=title, xlabel="steps ahead", xticks=range(2, HORIZON + 1, 2))
    all_axes[0].set_ylabel("value, standard deviations from the mean")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure
