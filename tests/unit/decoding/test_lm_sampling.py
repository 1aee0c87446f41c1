"""Sentences that language models make up, by their probabilities."""

import itertools
from collections import Counter

import numpy as np
import pytest

from asrkit.decoding.lm_sampling import draw, spell
from asrkit.lm.ngram import train_ngram
from tests.language_models import random_network

PHONES = ("a", "b")


@pytest.mark.parametrize("network", ["elman", "transformer"])
def test_frequencies_are_the_probabilities(network):
    """Of every way in which a sentence may begin with three symbols, ends among them."""
    lm, number = random_network(network), 20_000
    counts = Counter((*tokens, 0)[:3] for tokens in draw(lm, number, 1.0, np.random.default_rng(1), most=12))
    for begin in [(0,), *itertools.product((1, 2), (0,)), *itertools.product((1, 2), (1, 2), (0, 1, 2))]:
        context, log_prob, contexts = 0, 0.0, lm.begin()
        for token in begin:
            row = contexts.rows(np.array([context]))[0]
            log_prob += row[token]
            context = contexts.step(context, token)[0] if token else context
        share = np.exp(log_prob)
        assert counts[begin] == pytest.approx(number * share, abs=4.5 * np.sqrt(number * share)), begin


def test_temperature_raises_probabilities_to_a_power():
    lm, number = random_network("elman"), 20_000
    first = np.array([tokens[:1] for tokens in draw(lm, number, 0.5, np.random.default_rng(1), most=1)], dtype=object)
    counts = Counter(0 if not tokens else tokens[0] for tokens in first)
    expected = np.exp(2 * lm.begin().rows(np.array([0]))[0])
    expected /= expected.sum()
    for token in range(3):
        assert counts[token] / number == pytest.approx(expected[token], abs=0.015)


def test_an_ngram_is_drawn_from_as_well():
    lm = train_ngram([["a", "b"]] * 20, 2, PHONES)
    drawn = draw(lm.automaton, 5000, 1.0, np.random.default_rng(3))
    row = {w: np.exp(lm.log_prob(w, ["<s>"])) for w in ("a", "b", "</s>")}
    share = sum(tokens[:1] == (1,) for tokens in drawn) / len(drawn)
    assert share == pytest.approx(row["a"] / sum(row.values()), abs=0.02)  # <unk> is not drawn


def test_endless_sentences_are_cut():
    lm = train_ngram([["a"] * 500], 2, PHONES)
    assert max(map(len, draw(lm.automaton, 10, 0.2, np.random.default_rng(0), most=30))) == 30


def test_spelling():
    assert spell((1, 2), ("a", "b")) == "a b"
    assert spell((2, 1, 2), (" ", "x")) == "x x"
