"""Search errors and model errors on cases whose scores are known."""

import numpy as np
import pytest

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import make_search
from asrkit.decoding.search_errors import compare_scores
from asrkit.lm.ngram import train_ngram

# The empty prefix is the worst after one frame, so that a beam of 1 drops it, and the best labelling with it.
MISLED = np.log([[0.3, 0.4, 0.3], [0.0001, 0.0001, 0.9998]])
CONFIG = DecodingConfig(beam=1, lm_weight=0.0, insertion_bonus=0.0)
SEARCH = make_search(CONFIG, None)


def search_all(log_probs, config):
    return [best.tokens for best, *_ in make_search(config, None).decode_all(log_probs)]


def test_a_narrow_beam_makes_a_search_error():
    (hyp,) = search_all([MISLED], CONFIG)
    assert hyp == (1, 2)
    (pair,) = compare_scores([MISLED], [hyp], [(2,)], SEARCH)
    assert pair.second_is_better
    assert (pair.first, pair.second) == pytest.approx((np.log(0.4 * 0.9998), np.log(0.6 * 0.9998 + 0.3 * 0.0001)))
    (found,) = search_all([MISLED], DecodingConfig(beam=9, lm_weight=0.0, insertion_bonus=0.0))
    assert found == (2,)


def test_weight_and_bonus_count_for_both():
    lm = train_ngram([("b",)] * 9, 1, ("a", "b"))
    config = DecodingConfig(beam=1, lm_weight=2.0, insertion_bonus=1.5)
    (pair,) = compare_scores([MISLED], [(1, 2)], [(2,)], make_search(config, lm.automaton))
    expected = [
        np.log(ctc) + 2.0 * lm.score(phones) + 1.5 * len(phones)
        for ctc, phones in ((0.4 * 0.9998, ("a", "b")), (0.6 * 0.9998 + 0.3 * 0.0001, ("b",)))
    ]
    assert (pair.first, pair.second) == pytest.approx(expected)


def test_equal_labelings_are_no_pair_and_impossible_references_are_model_errors():
    pairs = compare_scores([MISLED] * 4, [(1,)] * 4, [(1,), None, (2, 2), (1, 2, 1)], SEARCH)
    assert [pair.index for pair in pairs] == [1, 2, 3]
    assert [pair.second for pair in pairs] == [-np.inf] * 3
    assert not any(pair.second_is_better for pair in pairs)


def test_greedy_search_is_the_best_class_of_each_frame():
    assert search_all([MISLED, MISLED[:0]], DecodingConfig(method="greedy")) == [(1, 2), ()]
