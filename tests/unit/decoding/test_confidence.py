"""Odds beside enumeration of what may stand in a phone's place; calibration beside what the data were drawn from."""

import itertools
import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.optimize
import scipy.special

from asrkit.decoding.confidence import (
    MAX_LOG_ODDS,
    NEAR,
    NUM_EVIDENCE,
    PRIOR_PRECISION,
    Calibration,
    fit_calibration,
    phone_evidence,
    phone_log_odds,
    right_phones,
)
from asrkit.decoding.forced_align import AlignedTokens, forced_align
from asrkit.decoding.scorer import TokenScorer
from asrkit.errors import ConfigError
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
        assert evidence.tolist() == [[30, 30, 30, 0]]
        assert 0.999 < Calibration()(evidence)[0] <= 1.0
    assert phone_evidence(log_probs, forced_align(log_probs, []), TokenScorer()).shape == (0, NUM_EVIDENCE)


@pytest.mark.parametrize("probs", [(0.8, 0.5), (0.1, 0.2)])
def test_the_mean_posterior_is_the_second_piece_of_evidence(probs):
    log_probs = np.log([[0.1, 0.8, 0.1], [0.3, 0.5, 0.2], [0.9, 0.05, 0.05]])
    mean = math.sqrt(math.prod(probs))
    aligned = AlignedTokens(np.array([1]), np.array([0]), np.array([2]), np.log([mean]), 0.0)
    assert phone_evidence(log_probs, aligned, TokenScorer())[0, 1] == pytest.approx(math.log(mean / (1 - mean)))


@pytest.mark.parametrize("order", [0, 3])
@pytest.mark.parametrize("num_tokens", [1, 5, 40])
def test_what_is_near_is_the_mean_of_up_to_eight_to_either_side(num_tokens, order):
    rng = np.random.default_rng(num_tokens)
    log_probs, tokens = random_log_probs(rng, 3 * num_tokens), rng.integers(1, 4, num_tokens).tolist()
    lm = train_ngram(SENTENCES, order, PHONES) if order else None
    found = phone_evidence(log_probs, forced_align(log_probs, tokens), TokenScorer(lm and lm.automaton, 0.8, 0.6))
    context, lm_log_probs = lm and lm.automaton.start, [0.0] * num_tokens
    for u, token in enumerate(tokens if lm else []):
        context, lm_log_probs[u] = lm.automaton.step(context, token)
    for u in range(num_tokens):
        near = [v for v in range(num_tokens) if abs(u - v) <= NEAR == 8]
        assert found[u, 2] == pytest.approx(np.mean([found[v, 1] for v in near]))
        assert found[u, 3] == pytest.approx(np.mean([lm_log_probs[v] for v in near]))


def test_a_calibration_from_before_there_was_evidence_of_what_is_near_is_read():
    assert Calibration.from_plain(asdict(Calibration(0.5, 0.4, 0.3, 0.2, 0.1))) == Calibration(0.5, 0.4, 0.3, 0.2, 0.1)
    before = {"odds_weight": 0.5, "mean_weight": 0.25, "offset": -1.0}
    assert Calibration.from_plain(before) == Calibration(odds_weight=0.5, mean_weight=0.25, offset=-1.0)
    for faulty in ({**before, "near": 1.0}, {"odds_weight": 1.0}, {**before, "near_lm_weight": 1e7}, [0.5, 0.25]):
        with pytest.raises(ConfigError, match=r"^calibration"):
            Calibration.from_plain(faulty)


def test_without_calibration_the_confidence_is_the_probability_of_the_odds():
    evidence = np.array([[math.log(3.0), *3 * [100.0]], [-2000.0, *3 * [0.0]]])
    assert Calibration()(evidence).tolist() == pytest.approx([0.75, 0.0])


def test_a_fit_finds_what_the_data_were_drawn_from():
    rng = np.random.default_rng(0)
    evidence = rng.normal(1, 2, (40000, NUM_EVIDENCE))
    truth = Calibration(0.6, 0.3, 0.2, 0.4, -0.5)
    right = (rng.random(len(evidence)) < truth(evidence)).astype(float)
    found = fit_calibration(evidence, right)
    assert found.weights == pytest.approx(truth.weights, abs=0.05)
    # At the optimum as many are right as the confidences add up to, but for the prior of the offset.
    assert found(evidence).sum() - right.sum() == pytest.approx(-PRIOR_PRECISION[-1] * found.offset, abs=1e-6)


def drawn_phones(rng, num_phones, num_wrong):
    """Evidence (n, 4) of phones of a good network, and `right` (n,) with the wrong ones where it does most harm."""
    center, spread = rng.uniform(1, 25), rng.uniform(0.5, 8)
    evidence = np.clip(rng.normal((center, center / 3), (spread, spread / 2), (num_phones, 2)), -2, MAX_LOG_ODDS)
    right = np.ones(num_phones)
    right[np.argsort(-evidence.sum(axis=1))[:num_wrong]] = 0
    return with_near(evidence), right


def with_near(own):
    """Evidence (n, 4) of phones in rows whose neighbours are drawn likewise: their means hardly vary."""
    near = np.convolve(own[:, 1], np.full(17, 1 / 17), "same")
    return np.column_stack([own, near, np.full(len(own), -2.0)])


def negative_log_posterior(weights, evidence, right):
    log_odds = evidence @ weights[:-1] + weights[-1]
    log_likelihood = -np.logaddexp(0, np.where(right == 1, -log_odds, log_odds)).sum()
    return (PRIOR_PRECISION / 2 * (weights - [1, 0, 0, 0, 0]) ** 2).sum() - log_likelihood


@pytest.mark.parametrize("num_wrong", [0, 1, 3, 10, 40])
@pytest.mark.parametrize("num_phones", [50, 1000])
def test_a_fit_is_what_another_optimizer_finds(num_phones, num_wrong):
    rng = np.random.default_rng(num_wrong)
    bounds = [(0.05, None), *[(0, None)] * 3, (None, None)]
    for _ in range(5):
        phones = drawn_phones(rng, num_phones, num_wrong)
        best = scipy.optimize.minimize(
            negative_log_posterior, [1.0, *[0.0] * 4], phones, bounds=bounds, options={"ftol": 1e-13, "gtol": 1e-7}
        )
        found = fit_calibration(*phones).weights
        assert (found >= [0.05, 0, 0, 0, -np.inf]).all()
        assert found == pytest.approx(best.x, abs=2e-3)
        assert negative_log_posterior(found, *phones) <= best.fun + 1e-9


def test_a_fit_to_phones_without_evidence_moves_the_offset_alone():
    # 40 of 50 are right: 50 / (1 + exp(-b)) - 40 + precision * b = 0.
    found = fit_calibration(np.zeros((50, NUM_EVIDENCE)), np.repeat([1.0, 0.0], [40, 10]))
    offset = scipy.optimize.brentq(lambda b: 50 / (1 + math.exp(-b)) - 40 + PRIOR_PRECISION[-1] * b, 0, 2)
    assert found.weights == pytest.approx([1, 0, 0, 0, offset])
    assert fit_calibration(np.zeros((0, NUM_EVIDENCE)), np.zeros(0)) == Calibration()


def test_the_prior_weighs_as_much_as_phones_of_one_nat():
    # Their information is the second derivative of the log-likelihood, p * (1 - p) * x * x, with x = 1 or -1.
    rises = [scipy.special.expit(1 + h) for h in (-1e-4, 1e-4)]
    assert np.array([*4 * [40], 160]) * (rises[1] - rises[0]) / 2e-4 == pytest.approx(PRIOR_PRECISION, rel=1e-6)


@pytest.mark.parametrize("num_wrong", [0, 1, 3])
def test_few_wrong_phones_leave_low_confidences_low(num_wrong):
    # As on a dev set nearly without errors: evidence of 19 nats, far above that of what is found in white noise.
    rng = np.random.default_rng(num_wrong)
    evidence = with_near(np.clip(rng.normal((19, 5.5), (5, 2.5), (3000, 2)), -1, MAX_LOG_ODDS))
    noise = with_near(np.column_stack([rng.uniform(-1, 2, 100), rng.uniform(-2, 1, 100)]))
    for wrong in (np.argsort(-evidence[:, 0]), rng.permutation(3000), np.argsort(evidence[:, 0])):
        right = np.ones(3000)
        right[wrong[:num_wrong]] = 0
        found = fit_calibration(evidence, right)
        assert 0.4 < found.weights[:3].sum() < 1.7
        # Uncalibrated 0.61 on average. A mere share of right phones would be above 0.99.
        assert found(noise).mean() < 0.7
        assert found(noise).max() < 0.96


def test_phones_that_are_not_scored_have_no_part_in_the_fit():
    rng = np.random.default_rng(1)
    evidence, right = rng.normal(0, 1, (50, NUM_EVIDENCE)), (rng.random(50) < 0.7).astype(float)
    more = np.vstack([evidence, np.full(NUM_EVIDENCE, 5.0)])
    assert fit_calibration(more, np.append(right, np.nan)) == fit_calibration(evidence, right)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_fit_to_outcomes_that_are_all_alike_is_finite(outcome):
    evidence = np.random.default_rng(2).normal(3, 10, (30, NUM_EVIDENCE))
    found = fit_calibration(evidence, np.full(30, outcome))
    assert np.isfinite(found.weights).all()
    assert abs(found.offset) < 1.5
    separable = fit_calibration(evidence, (evidence[:, 0] > 3).astype(float))
    assert 0.5 < separable.odds_weight < 2
    assert np.isfinite(separable.weights).all()


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


def test_a_phone_counts_as_many_phones_as_is_said():
    rng = np.random.default_rng(4)
    evidence, right = rng.normal(1, 3, (90, NUM_EVIDENCE)), (rng.random(90) < 0.6).astype(float)
    right[::7] = np.nan
    counts = rng.integers(0, 4, 90)
    found = fit_calibration(evidence, right, counts)
    assert found.weights == pytest.approx(
        fit_calibration(evidence.repeat(counts, axis=0), right.repeat(counts)).weights
    )
