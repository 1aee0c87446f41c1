"""CTC's beam search with a neural language model finds what trying all labellings finds."""

import itertools

import numpy as np
import pytest

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forward import ctc_log_probs
from asrkit.decoding.methods import make_search
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.scorer import TokenScorer
from tests.language_models import SHAPES, random_network

PHONES = ("a", "b")


def make_log_probs(num_frames, seed):
    logits = np.random.default_rng(seed).normal(size=(num_frames, 3))
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("network", SHAPES)
def test_a_wide_beam_finds_the_best_of_all_labelings(network):
    lm = random_network(network)
    search = make_search(DecodingConfig(beam=200, lm_weight=0.6, insertion_bonus=0.8), lm)
    assert isinstance(search, BeamSearch)
    for num_frames, seed in ((4, 0), (1, 1), (5, 2)):
        log_probs = make_log_probs(num_frames, seed)
        labelings = [each for n in range(num_frames + 1) for each in itertools.product((1, 2), repeat=n)]
        lm_scores = np.array([lm.score([PHONES[token - 1] for token in each]) for each in labelings])
        lens = np.array([len(each) for each in labelings])
        scores = ctc_log_probs(log_probs, labelings) + 0.6 * lm_scores + 0.8 * lens
        best = np.argsort(-scores)[:4]
        found = search.decode(log_probs, num_best=4)[: len(best)]
        assert [each.tokens for each in found] == [labelings[index] for index in best if np.isfinite(scores[index])]
        for each, index in zip(found, best, strict=False):
            assert each.score == pytest.approx(scores[index], abs=1e-9)
            assert each.lm_log_prob == pytest.approx(lm_scores[index], abs=1e-9)
        np.testing.assert_allclose(search.total_scores(log_probs, labelings), scores, rtol=0, atol=1e-9)


def test_a_stream_gives_the_same_however_it_is_cut():
    search = make_search(DecodingConfig(beam=8, lm_weight=0.6, insertion_bonus=0.8), random_network())
    log_probs = make_log_probs(60, 3)
    (whole,) = search.decode(log_probs)
    stream, committed = search.stream(), ()
    for piece in np.split(log_probs, [1, 7, 20, 41]):
        stream.advance(piece)
        committed += stream.commit()
    (found,) = stream.finish()
    assert committed + found.tokens == whole.tokens
    assert found.score == whole.score


def test_threads_do_not_share_contexts():
    search = make_search(DecodingConfig(beam=8, lm_weight=0.6), random_network("transformer"))
    utterances = [make_log_probs(20, seed) for seed in range(6)]
    assert search.decode_all(utterances, num_threads=3) == [search.decode(each) for each in utterances]


def test_the_total_score_is_that_of_the_sentence():
    lm = random_network("gru")
    scorer = TokenScorer(lm, 0.5, 2.0)
    assert scorer.total(-3.0, (1, 2, 2)) == pytest.approx(-3.0 + 0.5 * lm.score("abb") + 6.0, abs=1e-12)
