"""Lesson 1: what simple recurrent networks and the LSTM learn of a grammar, and what they cannot remember.

In the embedded Reber grammar, the last symbol but one equals the second symbol. A string of Reber's grammar stands
between them, and says nothing about it. So guessing is right in half of the cases.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from asrkit.lessons.grammar import (
    NEXT,
    SYMBOLS,
    draw_embedded,
    is_legal,
    one_hot,
    with_other_end,
)
from asrkit.lessons.lesson import COLORS, DASHES, Lesson, plots, with_interval
from asrkit.lessons.online import OnlineLstm, OnlineNetwork, SimpleNetwork, run_strings

SEEDS = (0, 1, 2)
NUM_TEST = 300
LEGAL = 0.25  # a string counts as legal if each symbol had at least this value; legal symbols have 0.5 or 1

Predictor = Callable[[np.ndarray], np.ndarray]  # inputs (N, T, 7) -> values of the next symbols (N, T, 7)


@dataclass(frozen=True)
class HeldOut:
    """Legal strings that no network has learnt from, and two kinds of illegal strings made from them."""

    legal: list[str]
    wrong_end: list[str]
    damaged: list[str]


@dataclass
class Learner:
    """One kind of network, and the results of its runs with different seeds.

    Attributes:
        curve: number of training strings -> percent of last symbols but one that are right, per seed.
        judged: percent of strings that are judged rightly at the end, per seed: legal ones, those with a wrong end, and
            damaged ones.
    """

    name: str
    curve: dict[int, list[float]] = field(default_factory=dict)
    judged: tuple[list[float], list[float], list[float]] = field(default_factory=lambda: ([], [], []))


class Recurrent(nn.Module):
    """One recurrent layer of PyTorch with softmax outputs, trained by back-propagation through time (BPTT)."""

    def __init__(self, cell: type[nn.RNN | nn.LSTM | nn.GRU], num_hidden: int):
        super().__init__()
        self.rnn = cell(len(SYMBOLS), num_hidden, batch_first=True)
        self.output = nn.Linear(num_hidden, len(SYMBOLS))

    def forward(self, inputs: Tensor) -> Tensor:
        """Log probabilities of the next symbols (N, T, 7) for `inputs` (N, T, 7)."""
        return torch.log_softmax(self.output(self.rnn(inputs)[0]), dim=-1)


def study(quick: bool) -> Lesson:
    """Make the lesson's table, figures and pictures."""
    test = held_out_strings()
    return results([learn(test) for learn in set_ups(quick)], rule_angles(test.legal[:100]))


def set_ups(quick: bool) -> list[Callable[[HeldOut], Learner]]:
    """All networks and ways of learning, in the order of the table.

    The first three are those of the textbook's lecture.
    """
    few, many = (100, 100) if quick else (5_000, 60_000)  # strings
    less, more = (20, 500) if quick else (1_000, 1_000)  # batches
    elman, jordan = (partial(SimpleNetwork, feeds_outputs_back=which) for which in (False, True))
    return [
        partial(learn_online, "Elman, 3 hidden, step by step", elman, 0.1, few),
        partial(learn_online, "Jordan, 3 hidden, step by step", jordan, 0.1, few),
        partial(learn_online, "LSTM, 3 blocks, on-line rule", OnlineLstm, 0.01, many),
        partial(learn_batches, "Elman, 16 hidden, BPTT", nn.RNN, 16, less),
        partial(learn_batches, "LSTM, 3 blocks, BPTT", nn.LSTM, 3, less),
        partial(learn_batches, "LSTM, 16 blocks, BPTT", nn.LSTM, 16, more),
        partial(learn_batches, "GRU, 16 hidden, BPTT", nn.GRU, 16, less),
    ]


def results(learners: Sequence[Learner], angles: Sequence[float]) -> Lesson:
    """Make the lesson from the learners and the angles of the on-line rule's gradient."""
    table = [["network", "strings", "last but one", "legal accepted", "wrong end refused", "damaged refused"]]
    for learner in learners:
        seen = max(learner.curve)
        measures = (learner.curve[seen], *learner.judged)
        table.append([learner.name, f"{seen:,}", *map(with_interval, measures)])
    figures = {
        "strings": {each.name: [*each.curve] for each in learners},
        "last_but_one": {each.name: [*each.curve.values()] for each in learners},
        "judged": {each.name: each.judged for each in learners},
        "angle_degrees": {"mean": float(np.mean(angles)), "min": float(np.min(angles)), "max": float(np.max(angles))},
    }
    pictures = {
        "reber-grammar": draw_grammar(),
        "reber-learning": draw_learning(learners),
        "reber-angle": draw_angles(angles),
    }
    return Lesson(table, figures, pictures)


def held_out_strings() -> HeldOut:
    """The test strings; the same ones in every call."""
    rng = np.random.default_rng(1967)
    legal = [draw_embedded(rng, held_out=True) for _ in range(NUM_TEST)]
    return HeldOut(legal, [*map(with_other_end, legal)], [damaged(string, rng) for string in legal])


def damaged(string: str, rng: np.random.Generator) -> str:
    """Replace one symbol of the inner string, so that this string is no longer legal."""
    while True:
        place = int(rng.integers(2, len(string) - 2))
        other = string[:place] + SYMBOLS[rng.integers(len(SYMBOLS))] + string[place + 1 :]
        if not is_legal(other[2:-2]):
            return other


def last_but_one(predict: Predictor, strings: Sequence[str]) -> float:
    """Percent of strings for which the right one of T and P has the higher value as the last symbol but one."""
    values = predict(one_hot([*strings]))
    ends = values[np.arange(len(strings)), [len(string) - 3 for string in strings]]
    is_t = ends[:, SYMBOLS.index("T")] > ends[:, SYMBOLS.index("P")]
    return 100 * float(np.mean(is_t == [string[1] == "T" for string in strings]))


def judged_legal(predict: Predictor, strings: Sequence[str]) -> float:
    """Percent of strings in which each symbol after the first had a value of at least LEGAL."""
    coded = one_hot([*strings])
    values = (predict(coded)[:, :-1] * coded[:, 1:]).sum(axis=2)  # value of the actual symbol, (N, T - 1)
    is_past_end = coded[:, 1:].sum(axis=2) == 0
    return 100 * float(np.mean(np.all((values >= LEGAL) | is_past_end, axis=1)))


def judge(learner: Learner, predict: Predictor, test: HeldOut) -> None:
    """Add how the network of one seed judges the test strings."""
    learner.judged[0].append(judged_legal(predict, test.legal))
    learner.judged[1].append(100 - judged_legal(predict, test.wrong_end))
    learner.judged[2].append(100 - judged_legal(predict, test.damaged))


def symbol_stream(rng: np.random.Generator) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """Yield training data without end: whether a string begins, a symbol (1, 7), and the next symbol (1, 7)."""
    while True:
        (coded,) = one_hot([draw_embedded(rng, held_out=False)])
        for t in range(len(coded) - 1):
            yield t == 0, coded[None, t], coded[None, t + 1]


def learn_online(
    name: str,
    make: Callable[[list[np.random.Generator], int, int], OnlineNetwork],
    eta: float,
    num_strings: int,
    test: HeldOut,
) -> Learner:
    """Train the networks of all seeds, each on its own strings, symbol by symbol with the learning rate `eta`."""
    rngs = [np.random.default_rng(seed) for seed in SEEDS]
    network, learner = make(rngs, len(SYMBOLS), 3), Learner(name)
    streams = [symbol_stream(rng) for rng in rngs]
    begin, carried = network.initial(), network.initial()

    def predictor(seed: int) -> Predictor:
        return lambda inputs: run_strings(network, inputs)[seed]

    num_begun, mark = 0, num_strings // 20
    while num_begun <= num_strings * len(SEEDS):
        items = [next(stream) for stream in streams]
        for seed, (begins, _, _) in enumerate(items):
            if begins:
                num_begun += 1
                for now, at_begin in zip(carried, begin, strict=True):
                    now[seed] = at_begin[seed]
        if num_begun > mark * len(SEEDS):
            learner.curve[mark] = [last_but_one(predictor(seed), test.legal) for seed in SEEDS]
            mark += num_strings // 20
        x, d = np.stack([item[1] for item in items]), np.stack([item[2] for item in items])
        carried = network.learn(x, d, carried, eta)
    for seed in SEEDS:
        judge(learner, predictor(seed), test)
    return learner


def learn_batches(
    name: str, cell: type[nn.RNN | nn.LSTM | nn.GRU], num_hidden: int, num_batches: int, test: HeldOut
) -> Learner:
    """Train the networks of all seeds, one after the other, by BPTT and Adam (rate 0.01), on batches of 32 strings."""
    learner = Learner(name)
    for seed in SEEDS:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Recurrent(cell, num_hidden)
        rng = np.random.default_rng(seed)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)

        @torch.no_grad()
        def predict(inputs: np.ndarray, network: Recurrent = network) -> np.ndarray:
            return network(torch.tensor(inputs, dtype=torch.float32)).exp().numpy()

        for batch in range(1, num_batches + 1):
            coded = torch.tensor(one_hot([draw_embedded(rng, held_out=False) for _ in range(32)]), dtype=torch.float32)
            loss = -(network(coded[:, :-1]) * coded[:, 1:]).sum() / coded[:, 1:].sum()  # cross-entropy a symbol
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if batch % (num_batches // 20) == 0:
                learner.curve.setdefault(32 * batch, []).append(last_but_one(predict, test.legal))
        judge(learner, predict, test)
    return learner


def full_gradient(network: OnlineLstm, string: str) -> np.ndarray:
    """-dE / d(W, V) of the first network by BPTT, as one vector (n,).

    E is summed over all steps of a string, nothing is cut.

    These are the equations of OnlineLstm again. Here PyTorch differentiates them.
    """
    hidden = torch.tensor(network.hidden[0], requires_grad=True)  # (4, H, n)
    output = torch.tensor(network.output[0], requires_grad=True)
    coded = torch.tensor(one_hot([string])[0])
    one = torch.ones(1, dtype=coded.dtype)
    h = s = torch.zeros(network.num_blocks, dtype=coded.dtype)
    error = torch.zeros((), dtype=coded.dtype)
    for x, d in itertools.pairwise(coded):
        sums = hidden @ torch.cat([x, h, one])  # W v(t)
        i, f, o = torch.sigmoid(sums[0]), torch.sigmoid(sums[1]), torch.sigmoid(sums[3])
        s = f * s + i * torch.tanh(sums[2])  # s(t) = f * s(t - 1) + i * g
        h = o * torch.tanh(s)  # h(t) = o * tanh(s(t))
        y = torch.sigmoid(output @ torch.cat([h, one]))  # y(t) = sigmoid(V [h(t); 1])
        error = error + ((d - y) ** 2).sum() / 2
    of_hidden, of_output = torch.autograd.grad(error, [hidden, output])
    return -torch.cat([of_hidden.flatten(), of_output.flatten()]).numpy()


def online_gradient(network: OnlineLstm, string: str) -> np.ndarray:
    """The same gradient, (n,), by the truncated on-line rule: the sum over all steps. The weights stay unchanged."""
    coded = one_hot([string])[0]
    carried, total = network.initial(), np.zeros(network.hidden[0].size + network.output[0].size)
    for x, d in itertools.pairwise(coded):
        of_hidden, of_output, carried = network.gradient(x[None, None], d[None, None], carried)
        total += np.concatenate([of_hidden.ravel(), of_output.ravel()])
    return total


def rule_angles(strings: Sequence[str]) -> list[float]:
    """Degrees between the gradient of the on-line rule and that of BPTT. Each string has new random weights."""
    angles = []
    for seed, string in enumerate(strings):
        network = OnlineLstm([np.random.default_rng(seed)], 7, 3)
        # Only the hidden weights, since both gradients of the output weights are the same.
        a, b = (gradient(network, string)[: network.hidden.size] for gradient in (online_gradient, full_gradient))
        angles.append(float(np.degrees(np.arccos(a @ b / np.sqrt((a @ a) * (b @ b))))))
    return angles


def draw_grammar() -> Figure:
    """Draw the grammar as a graph. A string is a path from left to right."""
    figure, (axes,) = plots(1, 1, height=2.9)
    places = [(0, 0), (1, 0), (2, 1), (2, -1), (3.4, 1), (3.4, -1), (4.4, 0), (5.4, 0)]
    for state, ways in enumerate(NEXT):
        for symbol, to in ways.items():
            (x, y), (to_x, to_y) = places[state], places[to]
            if state == to:
                up = np.sign(y)
                axes.annotate(
                    "",
                    (x + 0.12, y + 0.16 * up),
                    (x - 0.12, y + 0.16 * up),
                    arrowprops={"arrowstyle": "->", "connectionstyle": f"arc3,rad={-1.9 * up}"},
                )
                axes.text(x, y + 0.72 * up, symbol, ha="center", va="center", fontweight="bold", color=COLORS[0])
                continue
            axes.annotate("", (to_x, to_y), (x, y), arrowprops={"arrowstyle": "->", "shrinkA": 12, "shrinkB": 12})
            axes.text(
                (x + to_x) / 2,
                (y + to_y) / 2,
                symbol,
                ha="center",
                va="center",
                fontweight="bold",
                color=COLORS[0],
                backgroundcolor="white",
            )
    for state, (x, y) in enumerate(places):
        axes.text(x, y, str(state), ha="center", va="center", bbox={"boxstyle": "circle", "facecolor": "0.92"})
    axes.set(xlim=(-0.4, 5.8), ylim=(-1.8, 1.8), title="Reber's grammar: from state 0 to 7, both ways equally likely")
    axes.set_axis_off()
    return figure


def draw_learning(learners: Sequence[Learner]) -> Figure:
    """Draw the share of right last symbols but one over the number of training strings: mean and range of the seeds."""
    figure, both = plots(1, 2, height=4.2)
    groups = (learners[:3], learners[3:])
    for axes, group, title in zip(both, groups, ("after each symbol", "BPTT, batches of 32 strings"), strict=True):
        for which, learner in enumerate(group):
            strings = np.array([*learner.curve])
            shares = np.array([*learner.curve.values()])
            axes.plot(strings, shares.mean(1), color=COLORS[which], linestyle=DASHES[which], label=learner.name)
            axes.fill_between(strings, shares.min(1), shares.max(1), color=COLORS[which], alpha=0.15, linewidth=0)
        axes.axhline(50, color="0.5", linewidth=0.8)
        axes.set(title=title, xlabel="strings learnt from", ylim=(40, 102))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=9)
    both[0].set_ylabel("last symbol but one right, %")
    figure.suptitle("Who keeps the second symbol in mind? (line at 50 %: guessing)", fontsize=11)
    return figure


def draw_angles(angles: Sequence[float]) -> Figure:
    """Draw a histogram of the angles between the two gradients."""
    figure, (axes,) = plots(1, 1, height=2.8)
    axes.hist(angles, bins=20, color=COLORS[0], edgecolor="white")
    mean = float(np.mean(angles))
    axes.axvline(mean, color=COLORS[1], linestyle="--", label=f"mean: {mean:.1f}°")
    axes.set(
        title="The on-line rule's gradient and that of BPTT, LSTM with 3 blocks, new weights",
        xlabel="angle between the two, degrees",
        ylabel="strings",
    )
    axes.legend(frameon=False, loc="upper right")
    return figure
