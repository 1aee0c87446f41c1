"""Lesson 8: networks that remember. The Hopfield network, and a bidirectional associative memory of phones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from asrkit.lessons.lesson import COLORS, DASHES, Lesson, draw_line, plots

# Pictures of 10 x 10 points.
LETTERS = {
    "A": "...####... ..##..##.. .##....##. .##....##. .########. .########. .##....##. .##....##. .##....##. .##....##.",
    "S": "..######.. .########. .##....... .##....... .#######.. ..#######. .......##. .......##. .########. ..######..",
    "R": ".#######.. .########. .##....##. .##....##. .#######.. .######... .##.##.... .##..##... .##...##.. .##....##.",
    "X": "##......## ###....### .###..###. ..######.. ...####... ...####... ..######.. .###..###. ###....### ##......##",
}

# +1: the phone has the feature. Each phone's row is unlike the others in some feature.
FEATURES = ("voiced", "nasal", "stop", "fricative", "lips", "tongue tip", "tongue back", "vowel", "high", "front")
PHONES = {
    "p": "stop lips",
    "b": "voiced stop lips",
    "t": "stop tongue-tip",
    "d": "voiced stop tongue-tip",
    "k": "stop tongue-back",
    "m": "voiced nasal stop lips",
    "n": "voiced nasal stop tongue-tip",
    "f": "fricative lips",
    "s": "fricative tongue-tip",
    "z": "voiced fricative tongue-tip",
    "i": "voiced vowel high front",
    "u": "voiced vowel high lips tongue-back",
}


class Hopfield:
    """N units of -1 or 1 (Hopfield 1982)."""

    def __init__(self, patterns: np.ndarray):
        """`patterns` (P, N): what to remember, by Hebb's rule."""
        self.weights = patterns.T @ patterns / patterns.shape[1]  # w_ij = 1/N sum_p x_i x_j: w_ij = w_ji
        np.fill_diagonal(self.weights, 0)  # w_ii = 0

    def energy(self, state: np.ndarray) -> float:
        return float(-state @ self.weights @ state / 2)  # E = -1/2 sum_ij w_ij x_i x_j

    def recall(self, state: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[float]]:
        """Change one unit at a time, in random order, until none changes: the state, and E after each look."""
        state, energies = state.copy(), [self.energy(state)]
        changed = True
        while changed:
            changed = False
            for unit in rng.permutation(len(state)):
                field = self.weights[unit] @ state  # h_i = sum_j w_ij x_j
                new = state[unit] if field == 0 else np.sign(field)  # x_i = sign(h_i), or as it was
                if new != state[unit]:
                    energy = energies[-1] - (new - state[unit]) * field  # dE = -dx_i h_i <= 0
                    state[unit], changed = new, True
                    energies.append(float(energy))
                else:
                    energies.append(energies[-1])
        return state, energies


class AssociativeMemory:
    """Pairs of patterns, each of which brings the other to mind (Kosko 1988)."""

    def __init__(self, left: np.ndarray, right: np.ndarray):
        """`left` (P, N), `right` (P, M), of -1 and 1."""
        self.weights = left.T @ right  # W = sum_p a_p b_p'

    def energy(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(-a @ self.weights @ b)  # E = -a' W b

    def recall(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float]]:
        """To and fro until nothing changes: both patterns, and E after each half of a turn."""
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
    """The signs of sums, and what was before where a sum is 0."""
    return np.where(sums == 0, before, np.sign(sums))


def study(quick: bool) -> Lesson:
    """The lesson's table, figures and pictures."""
    rng = np.random.default_rng(0)
    patterns = np.array([[1.0 if point == "#" else -1.0 for point in "".join(rows.split())] for rows in LETTERS.values()])
    network = Hopfield(patterns)
    damaged = patterns * np.where(rng.random(patterns.shape) < 0.2, -1, 1)
    recalls = [network.recall(pattern, rng) for pattern in damaged]
    rises = max(float(np.max(np.diff(energies))) for _, energies in recalls)
    sizes, num_trials = ((100, 200), 4) if quick else ((100, 200, 400), 10)
    loads = np.arange(0.04, 0.241, 0.02)
    curves = {size: [overlap(size, load, num_trials, rng) for load in loads] for size in sizes}
    capacity = {size: crossing(loads, curve, 0.9) for size, curve in curves.items()}
    memory = articulation()
    table = [["memory", "asked with", "right"]]
    num_right = sum(np.array_equal(found, pattern) for (found, _), pattern in zip(recalls, patterns, strict=True))
    table.append(["Hopfield, letters", "a letter, 20 % of its points flipped", f"{num_right} of {len(patterns)}"])
    for size in sizes:
        table.append([f"Hopfield, {size} units", "a pattern", f"above 90 % of units up to {capacity[size]:.3f} N patterns"])
    for asked, right in memory["right"].items():
        table.append(["associative, phones", asked, f"{right} of {memory['phones']}"])
    figures = {
        "largest_rise_of_energy": rises,
        "letters_right": num_right,
        "letters": len(patterns),
        "capacity": {str(size): share for size, share in capacity.items()},
        "associative": memory,
    }
    pictures = {
        "hopfield-recall": draw_recall(patterns, damaged, recalls),
        "hopfield-capacity": draw_capacity(loads, curves),
    }
    return Lesson(table, figures, pictures)


def overlap(num_units: int, load: float, num_trials: int, rng: np.random.Generator) -> float:
    """How much of a stored random pattern stays when the network starts at it: mean of m = 1/N sum_i x_i x'_i."""
    overlaps = []
    for _ in range(num_trials):
        patterns = rng.choice([-1.0, 1.0], (round(load * num_units), num_units))
        state, _ = Hopfield(patterns).recall(patterns[0], rng)
        overlaps.append(state @ patterns[0] / num_units)
    return float(np.mean(overlaps))


def crossing(xs: np.ndarray, ys: Sequence[float], level: float) -> float:
    """Where a curve first falls below `level`, between two points by a straight line."""
    for i in range(1, len(xs)):
        if ys[i] < level <= ys[i - 1]:
            return float(xs[i - 1] + (xs[i] - xs[i - 1]) * (ys[i - 1] - level) / (ys[i - 1] - ys[i]))
    return float(xs[-1])


def articulation() -> dict[str, Any]:
    """Phones, coded by rows of a Hadamard matrix, paired with their features: what brings what to mind."""
    codes = hadamard(16)[1 : len(PHONES) + 1]
    features = np.array([[1.0 if feature in text.split() else -1.0 for feature in FEATURES] for text in PHONES.values()])
    memory = AssociativeMemory(codes, features)
    right = {"a phone": 0, "its features": 0, "its features, one of them wrong": 0}
    rises, stable = [], []
    unknown_code, unknown_features = np.zeros(codes.shape[1]), np.zeros(features.shape[1])
    for phone, code, features_of in zip(PHONES, codes, features, strict=True):
        found_code, found, energies = memory.recall(code, unknown_features)
        right["a phone"] += np.array_equal(found, features_of)
        rises += [*np.diff(energies)]
        if np.array_equal(found, features_of) and np.array_equal(found_code, code):
            stable.append(phone)
    return {"phones": len(PHONES), "right": right, "stable": stable, "rise": float(max(rises))}
