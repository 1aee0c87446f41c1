"""Sentences that language models make up, by their probabilities."""

from collections import Counter

import numpy as np
import pytest

from asrkit.decoding.lm_sampling import draw, spell
from asrkit.lm.ngram import train_ngram
from asrkit.models.language_config import LanguageConfig
from asrkit.models.search_language import NeuralLm

PHONES = ("a", "b")


def random_network():
    config, rng = LanguageConfig("elman", hidden_size=3, embedding_size=2), np.random.default_rng(2)
    shapes = {
        "embedding.weight": (3, 2),
        "network.layers.0.rnn.weight_ih_l0": (3, 2),
        "network.layers.0.rnn.weight_hh_l0": (3, 3),
        "network.layers.0.rnn.bias_ih_l0": (3,),
        "network.layers.0.rnn.bias_hh_l0": (3,),
        "output.weight": (3, 3),
        "output.bias": (3,),
    }
    return NeuralLm(config, PHONES, {name: rng.normal(size=shape) for name, shape in shapes.items()})


def test_frequencies_are_the_probabilities():
    lm, number = random_network(), 20_000
    counts = Counter(draw(lm, number, 1.0, np.random.default_rng(1), most=12))
    whole = {tokens: count for tokens, count in counts.items() if len(tokens) < 12 and count > 200}
    assert len(whole) > 5
    for tokens, count in whole.items():
        share = np.exp(lm.score([PHONES[token - 1] for token in tokens]))
        assert count == pytest.approx(number * share, abs=4 * np.sqrt(number * share)), tokens


def test_temperature_raises_probabilities_to_a_power():
    lm, number = random_network(), 20_000
    first = np.array([tokens[:1] for tokens in draw(lm, number, 0.5, np.random.default_rng(1))], dtype=object)
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
