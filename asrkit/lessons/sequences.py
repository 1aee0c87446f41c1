"""Lesson 7: sequence to sequence, with one context vector and with attention.

Its second part predicts series (series.py).

A network reads "10+6", character by character, and writes "16". An encoder reads, and a decoder writes.

Legend: N sums, J characters of the question, T of the answer, H hidden units, A size of attention.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from asrkit.lessons.lesson import COLORS, Lesson, draw_line, mean_and_interval, plots, with_interval
from asrkit.lessons.series import Forecasts, draw_errors, draw_examples, energy, forecast, made, plant

CHARACTERS = "0123456789+ "
BLANK = CHARACTERS.index(" ")  # pads questions on the left; begins and ends answers
NUM_HIDDEN, BATCH_SIZE, RATE = 64, 64, 0.006
SEEDS = (0, 1, 2)
VECTOR, ATTENTION = "one context vector", "attention"


class SumWriter(nn.Module):
    """An encoder that reads a sum, and a decoder that writes the result. Both are GRUs (lesson 2)."""

    def __init__(self, attends: bool):
        super().__init__()
        self.attends = attends
        self.encoder = nn.GRU(len(CHARACTERS), NUM_HIDDEN, batch_first=True)
        self.decoder = nn.GRUCell(len(CHARACTERS) + NUM_HIDDEN, NUM_HIDDEN)
        self.output = nn.Linear(2 * NUM_HIDDEN, len(CHARACTERS))
        if attends:
            self.query = nn.Linear(NUM_HIDDEN, NUM_HIDDEN)  # W
            self.key = nn.Linear(NUM_HIDDEN, NUM_HIDDEN, bias=False)  # U
            self.score = nn.Linear(NUM_HIDDEN, 1, bias=False)  # v

    def forward(self, questions: Tensor, answers: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        """Read `questions` (N, J), and write `length` characters.

        With `answers` (N, T), as in training, each step sees the true previous character. Without them it sees its own.

        Returns:
            Log probabilities of characters (N, T, 12), and attention weights (N, T, J).
        """
        h, _ = self.encoder(one_hot(questions))  # h(1) ... h(J), (N, J, H)
        s = h[:, -1]  # the decoder begins where the encoder ended: s(0) = h(J)
        y = torch.full((len(questions),), BLANK)
        outputs, weights = [], []
        for t in range(length):
            log_probs, s, alpha = self.write(y, s, h)
            y = log_probs.argmax(dim=1) if answers is None else answers[:, t]
            outputs.append(log_probs)
            weights.append(alpha)
        return torch.stack(outputs, dim=1), torch.stack(weights, dim=1)

    def write(self, y: Tensor, s: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of the decoder.

        Args:
            y: (N,) the previous characters y(t - 1).
            s: (N, H) the previous state s(t - 1).
            h: (N, J, H) the outputs of the encoder.

        Returns:
            Log probabilities (N, 12), the state s(t) (N, H), and the weights (N, J) of h(1) ... h(J) in c(t).
        """
        if self.attends:
            e = self.score(torch.tanh(self.query(s)[:, None] + self.key(h)))[..., 0]  # e_j = v' tanh(W s(t-1) + U h_j)
            alpha = torch.softmax(e, dim=1)  # alpha_j = exp(e_j) / sum_k exp(e_k)
        else:
            alpha = torch.eye(h.shape[1])[-1].expand(len(h), -1)  # all weight on the last one: c = h(J)
        c = (alpha[:, None] @ h)[:, 0]  # c(t) = sum_j alpha_j h_j
        s = self.decoder(torch.cat([one_hot(y), c], dim=1), s)  # s(t) = GRU([y(t - 1); c(t)], s(t - 1))
        return torch.log_softmax(self.output(torch.cat([s, c], dim=1)), dim=1), s, alpha  # softmax(V [s(t); c(t)])


def one_hot(codes: Tensor) -> Tensor:
    """Characters `codes` (N, ...) as vectors: (N, ..., 12)."""
    return nn.functional.one_hot(codes, len(CHARACTERS)).float()


def encode(texts: Sequence[str]) -> Tensor:
    """Texts of equal length as places in CHARACTERS, (N, length)."""
    return torch.tensor([[CHARACTERS.index(each) for each in text] for text in texts])


def is_held_out(a: int, b: int) -> bool:
    """Whether a sum is reserved for the test: about one in ten, of every size."""
    return (31 * a + 57 * b) % 101 < 10


def draw_sums(count: int, digits: int, held_out: bool, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Draw questions "a+b" and answers. Each number has 1 to `digits` digits; all lengths are equally likely."""
    questions: list[str] = []
    answers: list[str] = []
    while len(questions) < count:
        a, b = (
            int(rng.integers(10 ** (size - 1) if size > 1 else 0, 10**size)) for size in rng.integers(1, digits + 1, 2)
        )
        if is_held_out(a, b) == held_out:
            questions.append(f"{a}+{b}".rjust(2 * digits + 1))
            answers.append(str(a + b).ljust(digits + 2))
    return questions, answers


def learn(attends: bool, seed: int, digits: int, num_updates: int) -> SumWriter:
    """Train a network on this number of batches of new sums."""
    network, rng = made(lambda: SumWriter(attends), seed), np.random.default_rng(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, num_updates)  # rises, then falls to 0
    for _ in range(num_updates):
        questions, answers = map(encode, draw_sums(BATCH_SIZE, digits, False, rng))
        log_probs, _ = network(questions, answers, digits + 2)
        loss = -log_probs.gather(2, answers[..., None]).mean()  # cross-entropy a character
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network


@torch.no_grad()
def answer(network: SumWriter, questions: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The texts that a network writes, with the spaces after them, and its attention weights (N, T, J)."""
    log_probs, weights = network(encode(questions), None, len(questions[0]) // 2 + 2)
    written = ["".join(CHARACTERS[code] for code in codes) for codes in log_probs.argmax(dim=2).tolist()]
    return written, weights.numpy()


def right_by_length(network: SumWriter, questions: Sequence[str], answers: Sequence[str]) -> dict[int, float]:
    """Percent of answers that are completely right, by the length of the question."""
    right = defaultdict(list)
    for question, said, true in zip(questions, answer(network, questions)[0], answers, strict=True):
        right[len(question.strip())].append(said == true)
    return {length: 100 * float(np.mean(right[length])) for length in sorted(right)}


def study(quick: bool) -> Lesson:
    """Make the lesson's table, figures and pictures."""
    digits, num_updates = (2, 600) if quick else (3, 2_000)
    test = draw_sums(1_500, digits, True, np.random.default_rng(1967))
    right: dict[str, list[dict[int, float]]] = {VECTOR: [], ATTENTION: []}
    for seed in SEEDS:
        for name in right:  # the last network has attention; its weights are drawn below
            network = learn(name == ATTENTION, seed, digits, num_updates)
            right[name].append(right_by_length(network, *test))
    length = 1_500 if quick else 4_500
    all_series = {
        "A nonlinear plant": plant(length, np.random.default_rng(1990)),
        "Energy of speech": energy(8 if quick else 24),
    }
    forecasts = {title: forecast(series, SEEDS, 200 if quick else 600) for title, series in all_series.items()}
    by_length = {name: {size: [each[size] for each in runs] for size in runs[0]} for name, runs in right.items()}
    return results(by_length, forecasts, network, longest_right(network, *test))


def longest_right(network: SumWriter, questions: Sequence[str], answers: Sequence[str]) -> list[str]:
    """The two longest questions that a network answers rightly."""
    said = answer(network, questions)[0]
    right = [question for question, own, true in zip(questions, said, answers, strict=True) if own == true]
    return sorted(right, key=lambda question: -len(question.strip()))[:2]


def results(
    right: Mapping[str, Mapping[int, Sequence[float]]],
    forecasts: Mapping[str, Forecasts],
    attending: SumWriter,
    examples: Sequence[str],
) -> Lesson:
    """Make the lesson from all results. The attention weights are those of one network."""
    lengths = [*right[VECTOR]]
    table = [["sums", *(f"{length} characters" for length in lengths)]]
    table += [[f"{name}, % right", *(with_interval(seeds) for seeds in each.values())] for name, each in right.items()]
    shown = [1, 2, 4, 8, 12][: len(lengths)]
    for title, each in forecasts.items():
        table.append([f"{title}: error", *(f"{ahead} ahead" for ahead in shown)])
        for predictor in each.told:
            errors = each.errors(predictor).mean(axis=0)
            table.append([f"  {predictor}", *(f"{errors[ahead - 1]:.2f}" for ahead in shown)])
    width = max(map(len, table))
    table = [[*row, *[""] * (width - len(row))] for row in table]
    written, weights = answer(attending, examples)
    figures = {
        "right": {name: {str(length): [*seeds] for length, seeds in each.items()} for name, each in right.items()},
        "errors": {
            title: {predictor: each.errors(predictor).tolist() for predictor in each.told}
            for title, each in forecasts.items()
        },
        "examples": dict(zip(examples, written, strict=True)),
        "weights": weights.tolist(),
    }
    pictures = {
        "sequences-right": draw_right(right),
        "sequences-attention": draw_attention(examples, written, weights),
        "sequences-errors": draw_errors(forecasts),
        "sequences-examples": draw_examples(forecasts, 100),
    }
    return Lesson(table, figures, pictures)


def draw_right(right: Mapping[str, Mapping[int, Sequence[float]]]) -> Figure:
    """Draw the percentage of right answers over the length of the question: means and intervals over seeds."""
    figure, (axes,) = plots(1, 1, height=3.4)
    for which, (name, by_length) in enumerate(right.items()):
        means, halves = zip(*map(mean_and_interval, by_length.values()), strict=True)
        places = np.array([*by_length]) + 0.06 * (which - 0.5)
        draw_line(axes, places, means, which, name)
        axes.errorbar(places, means, yerr=halves, color=COLORS[which], fmt="os"[which], capsize=4)
    axes.set(
        title="Sums written rightly, unseen ones",
        xlabel="characters of the question",
        ylabel="all characters right, %",
        xticks=[*right[VECTOR]],
        ylim=(0, 105),
    )
    axes.legend(frameon=False, loc="upper right")
    return figure


def draw_attention(examples: Sequence[str], written: Sequence[str], weights: np.ndarray) -> Figure:
    """Draw the attention `weights` (N, T, J): for each written character, what the decoder reads."""
    figure, all_axes = plots(1, len(examples), height=3.4)
    for axes, question, said, each in zip(all_axes, examples, written, weights, strict=True):
        marks = [character if character != " " else "␣" for character in said]
        image = axes.imshow(each, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        axes.set(title=f"{question} = {said.strip()}", xlabel="character read")
        axes.set_xticks(range(len(question)), [*question])
        axes.set_yticks(range(len(said)), marks)
    all_axes[0].set_ylabel("character written (␣: end)")
    figure.colorbar(image, ax=all_axes, label="weight α")
    return figure
