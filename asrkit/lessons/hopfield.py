"""Lesson 8: networks that remember. They are the Hopfield network, and a bidirectional associative memory of phones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asrkit.lessons.lesson import WIDTH, Lesson, draw_line, plots

ROWS, COLUMNS = np.indices((10, 10))
RADIUS = np.hypot(ROWS - 4.5, COLUMNS - 4.5)
SHAPES = {  # pictures of 10 x 10 points; True is black
    "cross": (abs(ROWS - COLUMNS) < 2) | (abs(ROWS + COLUMNS - 9) < 2),
    "ring": (RADIUS > 2.6) & (RADIUS < 4.8),
    "stripes": COLUMNS % 4 < 2,
    "corner": (ROWS < 5) == (COLUMNS < 5),
}

FEATURES = ("voiced", "nasal", "stop", "fricative", "lips", "tip", "back", "vowel", "high", "front", "rounded")
PHONES = {  # the features of each phone; lips, tip and back (of the tongue) are its place of articulation
    "p": "stop lips",
    "k": "stop back",
    "z": "voiced fricative tip",
    "i": "voiced vowel high front",
    "u": "voiced vowel high back lips rounded",
    "b": "voiced stop lips",
    "t": "stop tip",
    "d": "voiced stop tip",
    "m": "voiced nasal stop lips",
    "n": "voiced nasal stop tip",
    "f": "fricative lips",
    "s": "fricative tip",
    "a": "voiced vowel",
}
NUM_FEW = 5  # the first so many phones form the small memory


@dataclass(frozen=True)
class Recalled:
    """How often an associative memory of phones and features is right.

    Attributes:
        num_phones: phones in the memory.
        features: phones from which all their features are recalled.
        phone: phones that are recalled from their features.
        despite: share of all inputs with one wrong feature from which the right phone is recalled.
        rise: the largest change of the energy during recall.
    """

    num_phones: int
    features: int
    phone: int
    despite: float
    rise: float


class Hopfield:
    """A network of N units, each -1 or 1 (Hopfield 1982)."""

    def __init__(self, patterns: np.ndarray):
        """Store `patterns` (P, N) by Hebb's rule."""
        self.weights = patterns.T @ patterns / patterns.shape[1]  # w_ij = 1/N sum_p x_i x_j: w_ij = w_ji
        np.fill_diagonal(self.weights, 0)  # w_ii = 0

    def energy(self, state: np.ndarray) -> float:
        """The energy E of a `state` (N,)."""
        return float(-state @ self.weights @ state / 2)  # E = -1/2 sum_ij w_ij x_i x_j

    def recall(self, state: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
        """Update one unit at a time, in random order, until nothing changes. `state` is (N,).

        Returns:
            The last state (N,), and E after each unit.
        """
        state, energies = state.copy(), [self.energy(state)]
        changed = True
        while changed:
            changed = False
            for unit in rng.permutation(len(state)):
                field = self.weights[unit] @ state  # h_i = sum_j w_ij x_j
                new = state[unit] if field == 0 else np.sign(field)  # x_i = sign(h_i), or as it was
                if new != state[unit]:
                    state[unit], changed = new, True
                    energies.append(self.energy(state))  # dE = -dx_i h_i, not above 0
                else:
                    energies.append(energies[-1])
        return state, energies


class AssociativeMemory:
    """Pairs of patterns, each of which recalls the other (Kosko 1988)."""

    def __init__(self, left: np.ndarray, right: np.ndarray):
        """Store pairs of `left` (P, N) and `right` (P, M) patterns of -1 and 1."""
        self.weights = left.T @ right  # W = sum_p a_p b_p'

    def energy(self, a: np.ndarray, b: np.ndarray) -> float:
        """The energy E of a pair, `a` (N,) and `b` (M,)."""
        return float(-a @ self.weights @ b)  # E = -a' W b

    def recall(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """Update both sides in turn until nothing changes, from `a` (N,) and `b` (M,).

        Returns:
            Both patterns, (N,) and (M,), and E after each update.
        """
        energies = [self.energy(a, b)]
        while True:
            new_b = signs(a @ self.weights, b)  # b = sign(W' a)
            energies.append(self.energy(a, new_b))
            new_a = signs(self.weights @ new_b, a)  # a = sign(W b)
            energies.append(self.energy(new_a, new_b))
            if np.array_equal(new_a, a) and np.array_equal(new_b, b):
                return a, b, energies
            a, b = new_a, new_b


def signs(sums: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The signs of `sums` (N,). Where a sum is 0, the value in `before` (N,) stays."""
    return np.where(sums == 0, before, np.sign(sums))


def study(quick: bool) -> Lesson:
    """Make the lesson's table, figures and pictures."""
    rng = np.random.default_rng(0)
    patterns = np.array([np.where(shape, 1.0, -1.0).ravel() for shape in SHAPES.values()])
    network = Hopfield(patterns)
    damaged = patterns * np.where(rng.random(patterns.shape) < 0.2, -1, 1)
    recalls = [network.recall(pattern, rng) for pattern in damaged]
    rises = max(float(np.max(np.diff(energies))) for _, energies in recalls)
    sizes, num_trials = ((100, 200), 4) if quick else ((100, 200, 400), 30)
    loads = np.arange(0.04, 0.241, 0.02)
    curves = {size: [overlap(size, load, num_trials, rng) for load in loads] for size in sizes}
    capacity = {size: crossing(loads, curve, 0.9) for size, curve in curves.items()}
    memories = [articulation([*PHONES][:number]) for number in (NUM_FEW, len(PHONES))]
    num_right = sum(np.array_equal(found, pattern) for (found, _), pattern in zip(recalls, patterns, strict=True))
    table = [["memory", "asked with", "what is right"]]
    table.append(["Hopfield, 4 shapes", "a shape, 20 % of its points wrong", f"{num_right} of {len(patterns)}"])
    for size in sizes:
        table.append([f"Hopfield, {size} units", "a stored pattern", f"0.9 of it, to {capacity[size]:.3f} N patterns"])
    for each in memories:
        name = f"associative, {each.num_phones} phones"
        table.append([name, "a phone: its features", f"{each.features} of {each.num_phones}"])
        table.append([name, "its features: the phone", f"{each.phone} of {each.num_phones}"])
        table.append([name, "the same, one feature wrong", f"{100 * each.despite:.0f} %"])
    figures = {
        "largest_rise_of_energy": rises,
        "shapes_right": num_right,
        "capacity": {str(size): share for size, share in capacity.items()},
        "associative": {str(each.num_phones): asdict(each) for each in memories},
    }
    pictures = {
        "hopfield-recall": draw_recall(patterns, damaged, recalls),
        "hopfield-capacity": draw_capacity(loads, curves),
    }
    return Lesson(table, figures, pictures)


def overlap(num_units: int, load: float, num_trials: int, rng: np.random.Generator) -> float:
    """How much of a stored random pattern remains when the network starts from it: mean of m = 1/N sum_i x_i x'_i."""
    overlaps = []
    for _ in range(num_trials):
        patterns = rng.choice([-1.0, 1.0], (round(load * num_units), num_units))
        state, _ = Hopfield(patterns).recall(patterns[0], rng)
        overlaps.append(state @ patterns[0] / num_units)
    return float(np.mean(overlaps))


def crossing(xs: np.ndarray, ys: Sequence[float], level: float) -> float:
    """Where a curve first falls below `level`, by linear interpolation. `xs` is (n,), and `ys` has n values."""
    for i in range(1, len(xs)):
        if ys[i] < level <= ys[i - 1]:
            return float(xs[i - 1] + (xs[i] - xs[i - 1]) * (ys[i - 1] - level) / (ys[i - 1] - ys[i]))
    return float(xs[-1])


def hadamard(size: int) -> np.ndarray:
    """A matrix of -1 and 1 with orthogonal rows, (size, size). `size` must be a power of 2."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def articulation(phones: Sequence[str]) -> Recalled:
    """Store phones, coded by rows of a Hadamard matrix, with their features. Measure what is recalled."""
    codes = hadamard(16)[1 : len(phones) + 1]
    features = np.array([[1.0 if each in PHONES[phone].split() else -1.0 for each in FEATURES] for phone in phones])
    memory = AssociativeMemory(codes, features)
    found_features, found_phone, found_despite = [], [], 0
    rises = [0.0]
    for phone, code, own in zip(phones, codes, features, strict=True):
        first = signs(code @ memory.weights, np.zeros(len(FEATURES)))  # one way only: b = sign(W' a)
        found_features += [phone] * np.array_equal(first, own)
        found, _, energies = memory.recall(np.zeros(len(code)), own)
        found_phone += [phone] * np.array_equal(found, code)
        rises += [*np.diff(energies)]
        for feature in range(len(FEATURES)):
            damaged = own.copy()
            damaged[feature] *= -1
            found, _, energies = memory.recall(np.zeros(len(code)), damaged)
            found_despite += np.array_equal(found, code)
            rises += [*np.diff(energies)]
    num_damaged = len(phones) * len(FEATURES)
    return Recalled(len(phones), len(found_features), len(found_phone), found_despite / num_damaged, float(max(rises)))


def draw_recall(patterns: np.ndarray, damaged: np.ndarray, recalls: Sequence[tuple[np.ndarray, list[float]]]) -> Figure:
    """Draw the shapes, damaged and recalled, and the energy during recall.

    Args:
        patterns, damaged: (P, 100) the shapes, and their damaged copies.
        recalls: for each the recalled state (100,) and the energies.
    """
    figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 8)
    for column, name in enumerate(SHAPES):
        for row, state in enumerate((patterns[column], damaged[column], recalls[column][0])):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(-state.reshape(10, 10), cmap="gray", vmin=-1, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(("stored", "damaged", "recalled")[row])
            if row == 0:
                axes.set_title(name, fontsize=10)
    axes = figure.add_subplot(grid[:, 4:])
    for which, (name, (_, energies)) in enumerate(zip(SHAPES, recalls, strict=True)):
        draw_line(axes, range(len(energies)), energies, which, name)
    axes.set(title="The energy never rises", xlabel="units looked at", ylabel="energy E")
    axes.legend(frameon=False, loc="upper right")
    return figure


def draw_capacity(loads: np.ndarray, curves: Mapping[int, Sequence[float]]) -> Figure:
    """Draw how much of a stored pattern remains, over the number of stored patterns per unit, `loads` (n,)."""
    figure, (axes,) = plots(1, 1, height=3.4)
    for which, (size, curve) in enumerate(curves.items()):
        draw_line(axes, loads, curve, which, f"N = {size} units")
    axes.axvline(0.138, color="0.5", linewidth=0.8)
    axes.text(0.139, 0.08, "0.138: theory, large N", color="0.3")
    axes.set(
        title="A stored pattern stays while there are fewer than about 0.14 N",
        xlabel="stored patterns / units, P / N",
        ylabel="overlap with the stored pattern",
        ylim=(0, 1.02),
    )
    axes.legend(frameon=False, loc="lower left")
    return figure
