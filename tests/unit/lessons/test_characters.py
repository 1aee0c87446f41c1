"""The Markov models of lesson 6, against counting by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from asrkit.errors import DataError
from asrkit.lessons.characters import ALPHABET, ENGLISH, CharacterNetwork, MarkovModel, encode, read_characters


def test_probabilities_by_hand() -> None:
    model = MarkovModel("abab", order=1)
    single = 0.9 * 2 / 4 + 0.1 / 29
    assert model.probability("b", "a", 0.1) == pytest.approx(0.9 * 1 / 1 + 0.1 * single)
    assert model.probability("z", "a", 0.1) == pytest.approx(single)  # after z nothing was seen
    assert model.probability("a", "z", 0.1) == pytest.approx(0.1 * 0.1 / 29)
    expected = -np.log2([0.9 + 0.1 * single, 0.9 + 0.1 * single]).mean()
    assert model.bits("aba", 0.1) == pytest.approx(expected)


@pytest.mark.parametrize("order", range(5))
def test_probabilities_sum_to_one(order: int) -> None:
    model = MarkovModel("the cat sat on the mat, the rat ran.", order)
    for history in ("the ", "at o", "zzzz", "n th"):
        assert sum(model.probability(history, each, 0.05) for each in ALPHABET) == pytest.approx(1)


def test_a_sample_of_a_high_order_is_made_of_what_was_seen() -> None:
    text = "abcdefgabcdefg"
    sample = MarkovModel(text, 2).sample(20, 0.0, np.random.default_rng(0)).strip()
    assert all("".join(pair) in text for pair in itertools.pairwise(sample))


def test_the_text_has_the_alphabet_alone() -> None:
    text = read_characters(ENGLISH)
    assert len(text) == 276_357  # the page's figures are of this text
    assert {*text} == {*ALPHABET}
    assert "  " not in text


def test_a_text_of_one_s_own(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Ünder the Sea;\n  7 seas.\n" * 500, encoding="utf-8")
    assert read_characters(path).startswith("nder the sea seas. nder the sea")
    path.write_text("Δεν " * 5_000, encoding="utf-8")
    with pytest.raises(DataError, match=r"own.txt: 0 characters .* expected 5000 or more"):
        read_characters(path)
    path.write_bytes(b"caf\xe9 " * 5_000)
    with pytest.raises(DataError, match=r"own.txt: not UTF-8 at byte 3"):
        read_characters(path)


def test_bits_of_a_network_are_its_cross_entropy() -> None:
    torch.manual_seed(0)
    network = CharacterNetwork()
    log_probs, _ = network(encode("abc")[None])
    expected = -(log_probs[0, 0, ALPHABET.index("b")] + log_probs[0, 1, ALPHABET.index("c")]) / 2 / np.log(2)
    assert network.bits("abc") == pytest.approx(float(expected.detach()), rel=1e-6)
    with torch.no_grad():
        network.output.bias[ALPHABET.index("q")] = 100.0
    assert network.sample(5, np.random.default_rng(0)) == "qqqqq"
