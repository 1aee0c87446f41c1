"""The equations of lesson 5, against all paths, PyTorch's CTC loss and asrkit's own search."""

import re
from itertools import product

import numpy as np
import pytest
import torch

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import make_search
from asrkit.lessons.ctc import beam_search, best_path, by_enumeration, collapse, merge_repeats, probability
from asrkit.lessons.phones import LATTICE


def random_outputs(seed: int, num_steps: int, num_classes: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.6), num_steps)


def collapse_text(path: tuple[int, ...]) -> tuple[int, ...]:
    """By regular expressions, on one letter a class."""
    text = "".join("-abc"[label] for label in path)
    return tuple(map("-abc".index, re.sub(r"(.)\1+", r"\1", text).replace("-", "")))


def sums_over_paths(y: np.ndarray) -> dict[tuple[int, ...], float]:
    sums: dict[tuple[int, ...], float] = {}
    for path in product(range(y.shape[1]), repeat=len(y)):
        share = 1.0
        for t, label in enumerate(path):
            share *= y[t, label]
        sums[collapse_text(path)] = sums.get(collapse_text(path), 0.0) + share
    return sums


def test_repeats_are_merged_before_blanks_are_removed() -> None:
    assert merge_repeats((1, 1, 0, 0, 1, 2, 2)) == (1, 0, 1, 2)
    assert collapse((1, 1, 0, 0, 1, 2, 2)) == (1, 1, 2)
    assert collapse((0, 0)) == ()


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_and_wide_beams_are_those_of_all_paths(seed: int) -> None:
    y = random_outputs(seed, num_steps=5, num_classes=3 + seed % 2)
    expected = sums_over_paths(y)
    assert sum(expected.values()) == pytest.approx(1)
    enumerated = {labels: sum(paths.values()) for labels, paths in by_enumeration(y).items()}
    assert enumerated == pytest.approx(expected)
    assert [*enumerated.values()] == sorted(enumerated.values(), reverse=True)
    for labels, share in expected.items():
        assert probability(y, labels) == pytest.approx(share)
    found = {prefix.labels: prefix.probability for prefix in beam_search(y, 10_000)[-1]}
    assert found == pytest.approx(expected)
    assert probability(y, (1, 1, 1, 1)) == 0  # needs 7 steps


def test_probability_is_pytorchs() -> None:
    y = random_outputs(seed=9, num_steps=30, num_classes=6)
    for labels in ((1, 2, 2, 3), (5,), (4, 4, 4, 1, 2, 5, 3)):
        loss = torch.nn.functional.ctc_loss(
            torch.from_numpy(y).log(), torch.tensor(labels), torch.tensor(30), torch.tensor(len(labels))
        )
        # PyTorch's loss is divided by the number of labels.
        assert np.log(probability(y, labels)) == pytest.approx(-float(loss) * len(labels))


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_beams_are_those_of_the_decoder(width: int) -> None:
    search = make_search(DecodingConfig(beam=width, lm_weight=0, insertion_bonus=0), None)
    for seed in range(5):
        y = random_outputs(seed, num_steps=25, num_classes=6)
        expected = search.decode(np.log(y), num_best=width)
        found = beam_search(y, width)[-1][:width]
        assert [each.labels for each in found] == [each.tokens for each in expected]
        assert [np.log(each.probability) for each in found] == pytest.approx([each.score for each in expected])


def test_the_lattice_where_greedy_search_is_wrong() -> None:
    sums = sums_over_paths(LATTICE)
    best = max(sums, key=lambda labels: sums[labels])
    assert best == (1, 2)
    assert collapse_text(best_path(LATTICE)) != best
    assert [beam_search(LATTICE, width)[-1][0].labels == best for width in (1, 2, 3)] == [False, False, True]
