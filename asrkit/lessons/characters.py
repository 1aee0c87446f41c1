"""Lesson 6: models of language by character. It compares Markov models of orders 0 to 4 with a recurrent network.

The text is english.txt, unless another one is given. It contains the docstrings of asrkit from the time when the lesson
was written. It is a separate file, so that the figures stay the same when asrkit changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from asrkit.errors import DataError, location
from asrkit.io.files import read_bytes
from asrkit.lessons.lesson import Lesson, draw_line, plots

ALPHABET = " abcdefghijklmnopqrstuvwxyz.,"
ORDERS = range(5)
EPSILONS = (0.0001, 0.01, 0.1, 0.3)
ENGLISH = Path(__file__).parent / "english.txt"
MIN_LENGTH = 5_000  # of a shorter text, the last tenth would be too short for a test
NUM_HIDDEN, LENGTH, NUM_SEQUENCES = 96, 50, 16


def read_characters(path: Path) -> str:
    """Read a UTF-8 text in lower case. Characters outside ALPHABET become spaces, and several spaces become one.

    Raises:
        DataError: the file is not UTF-8, or its text then has fewer than MIN_LENGTH characters.
    """
    try:
        text = read_bytes(path).decode("utf-8").lower()
    except UnicodeDecodeError as error:
        raise DataError(f"{location(path)}not UTF-8 at byte {error.start}; write the text in UTF-8") from None
    text = " ".join("".join(each if each in ALPHABET else " " for each in text).split())
    if len(text) < MIN_LENGTH:
        raise DataError(
            f"{location(path)}{len(text)} characters of the letters a to z, blanks, full stops and commas; "
            f"expected {MIN_LENGTH} or more: give a longer text in Latin letters"
        )
    return text


class MarkovModel:
    """Predicts the next character from the `order` characters before it."""

    def __init__(self, text: str, order: int):
        self.counts = [defaultdict[str, Counter[str]](Counter) for _ in range(order + 1)]
        for length, counts in enumerate(self.counts):
            for place in range(length, len(text)):
                counts[text[place - length : place]][text[place]] += 1

    def probability(self, history: str, character: str, epsilon: float) -> float:
        """P(c | history). The history must have at least `order` characters.

        P_k(c | h) = (1 - epsilon) N(h c) / N(h) + epsilon P_{k-1}(c | h without its first character). Where N(h) = 0,
        it is P_{k-1}. P_{-1} = 1 / 29, since there are 29 characters.
        """
        probability = 1 / len(ALPHABET)
        for length, counts in enumerate(self.counts):
            seen = counts.get(history[len(history) - length :])
            if seen is not None:
                probability = (1 - epsilon) * seen[character] / seen.total() + epsilon * probability
        return probability

    def bits(self, text: str, epsilon: float) -> float:
        """Bits per character of a text: -1/T sum_t log2 P(c_t | before)."""
        order = len(self.counts) - 1
        logs = [
            np.log2(self.probability(text[place - order : place], text[place], epsilon))
            for place in range(order, len(text))
        ]
        return float(-np.mean(logs))

    def sample(self, length: int, epsilon: float, rng: np.random.Generator) -> str:
        """Draw a text character by character. It begins like a word."""
        order = len(self.counts) - 1
        text = " " * order
        while len(text) < length + order:
            history = text[len(text) - order :]
            text += str(rng.choice([*ALPHABET], p=[self.probability(history, each, epsilon) for each in ALPHABET]))
        return text[order:]


class CharacterNetwork(nn.Module):
    """An LSTM that reads characters and predicts the next one. Its memory has no fixed length."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(len(ALPHABET), NUM_HIDDEN, batch_first=True)
        self.output = nn.Linear(NUM_HIDDEN, len(ALPHABET))

    def forward(
        self, characters: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log probabilities (N, T, 29) of the character after each of `characters` (N, T), and the last state."""
        hidden, state = self.lstm(nn.functional.one_hot(characters, len(ALPHABET)).float(), state)
        return torch.log_softmax(self.output(hidden), dim=-1), state

    @torch.no_grad()
    def bits(self, text: str) -> float:
        """Bits per character of a text."""
        codes = encode(text)
        log_probs, _ = self(codes[None, :-1])
        return float(-log_probs[0].gather(1, codes[1:, None]).mean()) / float(np.log(2))

    @torch.no_grad()
    def sample(self, length: int, rng: np.random.Generator) -> str:
        """Draw a text character by character. It begins like a word."""
        text, state = " ", None
        while len(text) <= length:
            log_probs, state = self(encode(text[-1])[None], state)
            probabilities = log_probs[0, -1].double().exp().numpy()
            text += ALPHABET[rng.choice(len(ALPHABET), p=probabilities / probabilities.sum())]
        return text[1:]


def encode(text: str) -> Tensor:
    """Characters as their places in ALPHABET, (T,)."""
    return torch.tensor([ALPHABET.index(each) for each in text])


def study(quick: bool, text: Path = ENGLISH) -> Lesson:
    """Make the lesson's table, figures and pictures, from the text in a file."""
    characters = read_characters(text)
    end = len(characters) * 9 // 10
    train, test = characters[:end], characters[end : end + (4_000 if quick else 20_000)]
    models = [MarkovModel(train, order) for order in ORDERS]
    bits = {epsilon: [model.bits(test, epsilon) for model in models] for epsilon in EPSILONS}
    rng = np.random.default_rng(0)
    markov_samples = [model.sample(70, 0.01, rng) for model in models]
    marks = (0, 20, 60, 120) if quick else (0, 30, 100, 250, 500)
    network_bits, network_samples = learn(encode(train), test, marks)
    table = [["model", "bits a character", "a sample"]]
    for order, sample in zip(ORDERS, markov_samples, strict=True):
        best = min(EPSILONS, key=lambda epsilon: bits[epsilon][order])
        table.append([f"Markov, order {order}, ε {best:g}", f"{bits[best][order]:.2f}", sample])
    for mark, own_bits, sample in zip(marks, network_bits, network_samples, strict=True):
        table.append([f"LSTM after {mark} updates", f"{own_bits:.2f}", sample])
    figures = {
        "characters": len(characters),
        "markov": {str(epsilon): each for epsilon, each in bits.items()},
        "network": dict(zip(map(str, marks), network_bits, strict=True)),
        "samples": [*markov_samples, *network_samples],
    }
    return Lesson(table, figures, {"characters": draw(bits, marks, network_bits)})


def learn(codes: Tensor, test: str, marks: Sequence[int]) -> tuple[list[float], list[str]]:
    """Train a network; after each number of updates in `marks`, measure it on `test` and draw a sample.

    Args:
        codes: (T,) the text to learn from, from `encode`.
        test: an unseen text.
        marks: numbers of updates, in rising order.

    Returns:
        Bits per character of `test`, and samples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CharacterNetwork()
    rng = np.random.default_rng(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    bits, samples = [], []
    for update in range(marks[-1] + 1):
        if update in marks:
            bits.append(network.bits(test))
            samples.append(network.sample(70, np.random.default_rng(1)))
        starts = rng.integers(len(codes) - LENGTH, size=NUM_SEQUENCES)
        pieces = torch.stack([codes[start : start + LENGTH + 1] for start in starts])
        log_probs, _ = network(pieces[:, :-1])
        loss = -log_probs.gather(2, pieces[:, 1:, None]).mean()  # cross-entropy a character
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return bits, samples


def draw(bits: dict[float, list[float]], marks: Sequence[int], network_bits: Sequence[float]) -> Figure:
    """Draw bits per character: of the Markov models over their order, and of the network over updates."""
    figure, (left, right) = plots(1, 2, height=3.6)
    for which, (epsilon, each) in enumerate(bits.items()):
        draw_line(left, ORDERS, each, which, f"ε = {epsilon:g}")
    left.set(title="Markov models", xlabel="order", ylabel="bits a character, unseen text", xticks=[*ORDERS])
    left.legend(frameon=False, loc="upper right")
    right.plot(marks, network_bits, "o-", color="black", label="LSTM")
    best = min(min(each) for each in bits.values())
    right.axhline(best, color="0.5", linestyle="--", label="best Markov model")
    right.set(title="Recurrent network", xlabel="updates", ylabel="bits a character, unseen text")
    right.legend(frameon=False, loc="upper right")
    return figure
