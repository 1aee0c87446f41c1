"""Odds beside enumeration of what may stand in a phone's place; calibration beside what the data were drawn from."""

import itertools
import math

import numpy as np
import pytest

from asrkit.decoding.confidence import (
    MAX_LOG_ODDS,
    Calibration,
    fit_calibration,
    phone_evidence,
    phone_log_odds,
    right_phones,
)
from asrkit.decoding.forced_align import AlignedTokens, forced_align
from asrkit.decoding.scorer import TokenScorer
from asrkit.lm import automaton
from asrkit.lm.ngram import train_ngram
from asrkit.scoring.protocols import PROTOCOLS

PHONES = ("a", "b", "c")
SENTENCES = [("a", "b", "c"), ("b", "b"), ("c", "a", "c", "b"), ("a", "a", "b")]


def random_log_probs(rng, num_frames):
    logits = rng.normal(0, 1.5, (num_frames, len(PHONES) + 1))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def collapse(path):
    return tuple(token for token, _ in itertools.groupby(path) if token)


def enumerated_odds(log_probs, tokens, aligned, lm, lm_weight, bonus):
    """Log odds of each token: every path in its place that is one class between blanks, one by one."""
    starts, ends = aligned.starts, aligned.ends
    odds = []
    for u, token in enumerate(tokens):
        left, right = tokens[u - 1 : u] if u else [], tokens[u + 1 : u + 2]
        first, last = (ends[u - 1] if u else 0), (starts[u + 1] if right else len(log_probs))
        sums = {}
        for path in itertools.product(range(log_probs.shape[1]), repeat=last - first):
            inside = collapse(path)
            if len(inside) > 1 or collapse((*left, *path, *right)) != (*left, *inside, *right):
                continue
            log_prob = sum(log_probs[first + t, k] for t, k in enumerate(path))
            sums[inside] = np.logaddexp(sums.get(inside, -math.inf), log_prob)
        for inside in sums:
            labeling = [*tokens[:u], *inside, *tokens[u + 1 :]]
            sums[inside] += bonus * len(labeling)
            if lm is not None:
                sums[inside] += lm_weight * lm.score([PHONES[k - 1] for k in labeling])
        own = sums.pop((token,))
        odds.append(own - np.logaddexp.reduce([*sums.values()]))
    return odds


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_odds_equal_enumeration(order, seed):
    rng = np.random.default_rng(seed)
    tokens = [1, 2, 2, 3, 1, 3][: seed + 2]
    log_probs = random_log_probs(rng, len(tokens) + 4)
    lm = train_ngram(SENTENCES, order, PHONES) if order else None
    aligned = forced_align(log_probs, tokens)
    found = phone_log_odds(log_probs, aligned, TokenScorer(lm and lm.automaton, 0.8, 0.6))
    expected = enumerated_odds(log_probs, tokens, aligned, lm, 0.8, 0.6)
    assert found == pytest.approx(expected)


def test_a_model_too_large_for_a_table_is_left_out(monkeypatch):
    log_probs = random_log_probs(np.random.default_rng(5), 8)
    aligned = forced_align(log_probs, [1, 2, 3])
    monkeypatch.setattr(automaton, "MAX_TABLE", 1)
    lm = train_ngram(SENTENCES, 3, PHONES).automaton
    found = phone_log_odds(log_probs, aligned, TokenScorer(lm, 1.0))
    assert found.tolist() == phone_log_odds(log_probs, aligned, TokenScorer()).tolist()


def test_certainty_is_a_finite_number():
    log_probs = np.log([[1e-30, 1.0, 1e-30], [1.0, 1e-30, 1e-30]])
    with np.errstate(divide="ignore"):
        impossible = np.log([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    for frames in (log_probs, impossible):
        evidence = phone_evidence(frames, forced_align(frames, [1]), TokenScorer())
        assert evidence.tolist() == [[MAX_LOG_ODDS, MAX_LOG_ODDS]]
        assert 0.999 < Calibration()(evidence)[0] <= 1.0
    assert phone_evidence(log_probs, forced_align(log_probs, []), TokenScorer()).shape == (0, 2)


def test_the_mean_posterior_is_the_second_piece_of_evidence():
    log_probs = np.log([[0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.9, 0.05, 0.05]])
    aligned = AlignedTokens(np.array([1]), np.array([0]), np.array([2]), np.log([0.8 * 0.5]) / 2, 0.0)
    mean = math.sqrt(0.8 * 0.5)
    assert phone_evidence(log_probs, aligned, TokenScorer())[0, 1] == pytest.approx(math.log(mean / (1 - mean)))


def test_without_calibration_the_confidence_is_the_probability_of_the_odds():
    assert Calibration()(np.array([[math.log(3.0), 100.0], [-2000.0, 0.0]])).tolist() == pytest.approx([0.75, 0.0])


def test_a_fit_finds_what_the_data_were_drawn_from():
    rng = np.random.default_rng(0)
    evidence = rng.normal(1, 2, (40000, 2))
    truth = Calibration(0.6, 0.3, -0.5)
    right = (rng.random(len(evidence)) < truth(evidence)).astype(float)
    found = fit_calibration(evidence, right)
    assert [found.odds_weight, found.mean_weight, found.offset] == pytest.approx([0.6, 0.3, -0.5], abs=0.05)
    # At the optimum as many are right as the confidences add up to.
    assert found(evidence).sum() == pytest.approx(right.sum(), abs=1.5)


def test_phones_that_are_not_scored_have_no_part_in_the_fit():
    rng = np.random.default_rng(1)
    evidence, right = rng.normal(0, 1, (50, 2)), (rng.random(50) < 0.7).astype(float)
    more = np.vstack([evidence, [[5.0, 5.0]]])
    assert fit_calibration(more, np.append(right, np.nan)) == fit_calibration(evidence, right)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_fit_to_outcomes_that_are_all_alike_is_finite(outcome):
    evidence = np.random.default_rng(2).normal(3, 10, (30, 2))
    found = fit_calibration(evidence, np.full(30, outcome))
    assert found(evidence).mean() == pytest.approx((30 * outcome + 1) / 32, abs=0.01)
    assert abs(found.odds_weight) < 0.1
    assert abs(found.mean_weight) < 0.1
    separable = fit_calibration(evidence, (evidence[:, 0] > 3).astype(float))
    assert separable.odds_weight > 0
    assert np.isfinite([separable.odds_weight, separable.mean_weight, separable.offset]).all()
    assert fit_calibration(np.zeros((0, 2)), np.zeros(0))(np.zeros((1, 2))) == pytest.approx([0.5])


def test_right_phones_are_those_that_the_alignment_pairs_with_their_like():
    refs = {"u": ("a", "b", "c"), "v": ("a",), "w": ("a",)}
    hyps = {"u": ("a", "x", "c", "c"), "v": (), "w": ("a",)}
    found = right_phones(refs, hyps, PROTOCOLS["as-is"])
    assert found["u"].tolist() in ([1, 0, 1, 0], [1, 0, 0, 1])
    assert found["v"].tolist() == []
    assert found["w"].tolist() == [1]


def test_folding_decides_what_is_right():
    refs, hyps = {"u": ("h#", "ix", "q", "aa", "zh")}, {"u": ("sil", "ih", "q", "ao", "s")}
    found = right_phones(refs, hyps, PROTOCOLS["merged"])["u"]
    np.testing.assert_array_equal(found, [1, 1, np.nan, 1, 0])
