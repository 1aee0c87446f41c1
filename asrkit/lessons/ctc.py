"""The equations of lesson 5: how CTC interprets the outputs of a network (Graves et al. 2006), and how to search.

Legend: T steps, K classes (0 is the blank, written `-`), y (T, K); y(t, k) is the probability of class k at step t. A
path names one class for each step. Its labelling is what is left after merging repeats and removing blanks.
Probabilities are multiplied directly here, which works for some hundred steps. For more steps one must add logarithms,
because the products become too small for floating-point numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import TypeAlias

import numpy as np

BLANK = 0
Labels: TypeAlias = tuple[int, ...]


def merge_repeats(path: Sequence[int]) -> Labels:
    """Replace each run of equal classes by one of them."""
    return tuple(label for label, _ in groupby(path))


def remove_blanks(labels: Sequence[int]) -> Labels:
    """Remove all blanks."""
    return tuple(label for label in labels if label != BLANK)


def collapse(path: Sequence[int]) -> Labels:
    """The labelling B(path) of a path: first merge repeats, then remove blanks."""
    return remove_blanks(merge_repeats(path))


def best_path(y: np.ndarray) -> Labels:
    """The most probable path of `y` (T, K): the best class at each step, argmax_k y(t, k)."""
    return tuple(y.argmax(axis=1).tolist())


def probability(y: np.ndarray, labels: Labels) -> float:
    """P(l | x): the sum of prod_t y(t, path(t)) over all paths with the labelling l, by forward variables alpha.

    l' is l with blanks around and between its labels, (2 L + 1,). alpha(s) at step t is the probability of all ways to
    be at place s of l' at this step. `y` is (T, K), and `labels` is l.
    """
    with_blanks = [BLANK, *(each for label in labels for each in (label, BLANK))]  # l' = - l1 - l2 - ... -
    skips = [
        place > 1 and with_blanks[place] not in (BLANK, with_blanks[place - 2]) for place in range(len(with_blanks))
    ]
    alpha = np.zeros(len(with_blanks))
    alpha[0] = 1  # before the first step: as after a blank
    for column in y:
        one_back = np.concatenate([[0], alpha])[:-1]
        two_back = np.concatenate([[0, 0], alpha])[:-2] * skips  # a blank between different labels is optional
        alpha = (alpha + one_back + two_back) * column[with_blanks]
    return float(alpha[-2:].sum())  # P = alpha(S) + alpha(S - 1) at step T: the last blank is optional


@dataclass(frozen=True)
class Prefix:
    """The beginning of a labelling, with the probability of its paths so far.

    Attributes:
        in_blank: of paths that end in a blank.
        in_label: of all other paths.
    """

    labels: Labels
    in_blank: float
    in_label: float

    @property
    def probability(self) -> float:
        """The probability of all paths."""
        return self.in_blank + self.in_label


def grow(prefixes: Sequence[Prefix], column: np.ndarray) -> list[Prefix]:
    """Extend `prefixes` by one step with the probabilities `column` (K,).

    Returns the new prefixes, the most probable first.

    Paths from several prefixes that lead to the same new one are added.
    """
    in_blank: defaultdict[Labels, float] = defaultdict(float)
    in_label: defaultdict[Labels, float] = defaultdict(float)
    for prefix in prefixes:
        labels, last = prefix.labels, prefix.labels[-1:]
        in_blank[labels] += prefix.probability * column[BLANK]  # Pb(l) = (Pb(l) + Pn(l)) y(-)
        for label in range(1, len(column)):
            if (label,) == last:
                in_label[labels] += prefix.in_label * column[label]  # Pn(l) = Pn(l) y(l's last): a repeat, merged
                in_label[*labels, label] += prefix.in_blank * column[label]  # Pn(l k) = Pb(l) y(k): after a blank only
            else:
                in_label[*labels, label] += prefix.probability * column[label]  # Pn(l k) = (Pb(l) + Pn(l)) y(k)
    grown = [Prefix(labels, in_blank[labels], in_label[labels]) for labels in {**in_blank, **in_label}]
    return sorted((each for each in grown if each.probability > 0), key=lambda each: -each.probability)


def beam_search(y: np.ndarray, width: int) -> list[list[Prefix]]:
    """All prefixes after each step of `y` (T, K), the most probable first.

    Only the best `width` (B) of them continue.
    """
    ranked = [[Prefix((), 1.0, 0.0)]]
    for column in y:
        ranked.append(grow(ranked[-1][:width], column))
    return ranked[1:]


def by_enumeration(y: np.ndarray) -> dict[Labels, dict[Labels, float]]:
    """The probability of each of the K^T paths of `y` (T, K), by labelling and then by path.

    Use it only for a few steps.

    Labellings are sorted by their sums, and the paths of each by their probabilities, the most probable first.
    """
    paths: defaultdict[Labels, dict[Labels, float]] = defaultdict(dict)
    for path in product(range(y.shape[1]), repeat=len(y)):
        paths[collapse(path)][path] = float(np.prod(y[range(len(y)), path]))  # prod_t y(t, path(t))
    by_sum = sorted(paths.items(), key=lambda each: -sum(each[1].values()))
    return {labels: dict(sorted(each.items(), key=lambda path: -path[1])) for labels, each in by_sum}
