"""Bootstrap intervals: their coverage where the true value is known, and what they must not depend on."""

import math

import numpy as np
import pytest

import asrkit.scoring.significance as significance
from asrkit.scoring.per import Counts
from asrkit.scoring.significance import compare, intervals, pool_speakers, rate_interval

NUM_SIMULATIONS = 3000
NUM_SAMPLES = 1000


def speakers(rng, num_units):
    """Test sets like TIMIT's core test: some 300 phones a speaker; PERs around 20 %, log-normal with sigma 0.3."""
    refs = rng.integers(250, 350, num_units)
    return rng.binomial(refs, np.minimum(0.2 * np.exp(rng.normal(0, 0.3, num_units)), 1)), refs


def utterances(rng, num_units):
    """15 to 60 phones an utterance, PERs beta-distributed around 20 %."""
    refs = rng.integers(15, 60, num_units)
    return rng.binomial(refs, rng.beta(2, 8, num_units)), refs


def good_utterances(rng, num_units):
    """As above, around 3 %: half of the utterances have no error at all."""
    refs = rng.integers(15, 60, num_units)
    return rng.binomial(refs, rng.beta(0.5, 16, num_units)), refs


def two_systems(rng, num_units):
    """Errors of A and B on the same speakers, who are hard or easy for both."""
    refs = rng.integers(200, 400, num_units)
    spread = rng.normal(0, 0.3, num_units)
    rates = [base * np.exp(spread + rng.normal(0, 0.1, num_units)) for base in (0.2, 0.18)]
    return *(rng.binomial(refs, np.minimum(rate, 1)) for rate in rates), refs


def coverage(simulate, num_units, seed):
    """Percentage of intervals that hold the true value, and percentages of those that lie above and below it."""
    rng = np.random.default_rng(seed)
    *errors, refs = simulate(rng, 3_000_000)
    truth = 100 * (errors[0] - sum(errors[1:])).sum() / refs.sum()
    above = below = 0
    for seed in range(NUM_SIMULATIONS):
        *errors, refs = simulate(rng, num_units)
        if len(errors) == 1:
            interval = rate_interval(errors[0], refs, num_samples=NUM_SAMPLES, seed=seed)
        else:
            counts = [[Counts(int(r), 0, 0, int(e)) for e, r in zip(system, refs, strict=True)] for system in errors]
            interval = compare(*counts, num_samples=NUM_SAMPLES, seed=seed).interval
        above += interval.low > truth
        below += interval.high < truth
    return 100 - 100 * (above + below) / NUM_SIMULATIONS, 100 * above / NUM_SIMULATIONS, 100 * below / NUM_SIMULATIONS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulate", "num_units"),
    [
        (speakers, 8),
        (speakers, 24),
        (utterances, 24),
        (utterances, 100),
        (good_utterances, 100),
        (two_systems, 8),
        (two_systems, 24),
    ],
)
def test_coverage(simulate, num_units):
    covered, above, below = coverage(simulate, num_units, seed=17)
    assert 93 <= covered <= 97
    assert max(above, below) < 4.5


def test_percentiles_would_not_do():
    """The reason for the studentised interval: that of the drawn rates' percentiles is too narrow."""
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(1500):
        errors, refs = speakers(rng, 12)
        drawn = rng.integers(12, size=(NUM_SAMPLES, 12))
        low, high = np.percentile(errors[drawn].sum(axis=1) / refs[drawn].sum(axis=1), [2.5, 97.5])
        missed += not low <= 0.2 * math.exp(0.3**2 / 2) <= high
    assert missed / 1500 > 0.07


def test_many_units_give_the_normal_interval():
    rng = np.random.default_rng(5)
    errors = rng.binomial(200, 0.25, size=400)
    rates = errors / 2
    margin = 1.96 * rates.std() / 400**0.5
    interval = rate_interval(errors, np.full(400, 200))
    assert (interval.low, interval.high) == pytest.approx((rates.mean() - margin, rates.mean() + margin), abs=0.05)


def test_a_rate_is_not_below_0_and_a_difference_may_be():
    """Three errors of 160 tokens: with so few the method alone would begin at -0.2 %."""
    errors, refs = [0] * 5 + [1] * 3, [20] * 8
    interval = rate_interval(errors, refs)
    assert interval.low == 0.0 < interval.high < 5.0
    difference = significance.compare_errors(errors, [0] * 8, refs).interval
    assert difference.low < 0.0
    assert difference.high == pytest.approx(interval.high)


def test_utterances_of_one_speaker_are_kept_together():
    per_utt = {f"s{i}-{u}": Counts(100, 0, 0, i + 1) for i in range(10) for u in range(30)}
    utt2spk = {utt: utt.split("-")[0] for utt in per_utt}
    found = intervals(per_utt, utt2spk)
    assert [interval.num_units for interval in found.values()] == [300, 10]
    widths = [interval.high - interval.low for interval in found.values()]
    assert widths[1] > 4 * widths[0]  # the square root of 30, and more for the few units
    scaled = rate_interval(range(1, 11), [100] * 10)
    assert (found["speakers"].low, found["speakers"].high) == pytest.approx((scaled.low, scaled.high))
    assert list(pool_speakers(per_utt, utt2spk).items())[1] == ("s1", Counts(3000, 0, 0, 60))
    assert list(intervals(per_utt)) == ["utterances"]


def test_free_insertions_and_deletions_are_not_errors():
    plain = {f"u{i}": Counts(20, i % 3, 1, 0) for i in range(20)}
    free = {utt: Counts(20, c.num_ins, c.num_del, 0, 5, 2) for utt, c in plain.items()}
    assert intervals(plain) == intervals(free)


def test_samples_are_drawn_alike_in_chunks_of_any_size(monkeypatch):
    errors, refs = utterances(np.random.default_rng(1), 50)
    whole = rate_interval(errors, refs)
    assert whole == rate_interval(errors, refs)
    assert whole != rate_interval(errors, refs, seed=1)
    monkeypatch.setattr(significance, "CHUNK_DRAWS", 1)
    few = rate_interval(errors, refs, num_samples=300)
    monkeypatch.setattr(significance, "CHUNK_DRAWS", 50 * 7)
    assert rate_interval(errors, refs, num_samples=300) == few
    monkeypatch.setattr(significance, "MAX_DRAWS", 50 * 2000)
    assert rate_interval(errors, refs).num_samples == 2000


def test_there_is_no_interval_where_it_would_mean_nothing():
    assert rate_interval([1, 2, 3], [10, 10, 10]).range_text() == "none (fewer than 8)"
    assert rate_interval([], []).text("utterances") == "95 % interval over 0 utterances: none (fewer than 8)"
    for errors, refs in (([0] * 20, [10] * 20), ([3] * 20, [10] * 20), ([0] * 19 + [5], [10] * 20), ([1] * 9, [0] * 9)):
        interval = rate_interval(errors, refs)
        assert interval.low is None
        assert interval.high is None
        assert interval.range_text() == "none (too few differ)"
    # Rounding must not make a spread out of equal rates.
    assert rate_interval([7 * r for r in range(1, 30)], [13 * r for r in range(1, 30)]).low is None


def test_a_rate_is_not_below_zero_but_a_difference_may_be():
    errors = [0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 0, 3, 0, 1, 0, 0, 0]
    assert rate_interval(errors, [50] * 20).low >= 0
    a = [Counts(50, 0, 0, 5)] * 20
    b = [Counts(50, 0, 0, 10 + error) for error in errors]
    result = compare(a, b)
    assert result.difference == pytest.approx(-10.8)
    assert result.interval.low < -10.8 < result.interval.high < 0
    assert result.prob_a_better == 1.0
    assert compare(b, a).prob_a_better == 0.0


def test_probability_of_being_better():
    # Two utterances of nine are worse by one with A, one is better by two, the rest are equal: even odds, nearly.
    a = [Counts(10, 0, 0, e) for e in (1, 1, 0, 0, 0, 0, 0, 0, 0)]
    b = [Counts(10, 0, 0, e) for e in (0, 0, 2, 0, 0, 0, 0, 0, 0)]
    # By the multinomial law of how often the two kinds are drawn in nine.
    better = 0.0
    for worse in range(10):
        for gain in range(10 - worse):
            ways = math.comb(9, worse) * math.comb(9 - worse, gain)
            probability = ways * (2 / 9) ** worse * (1 / 9) ** gain * (6 / 9) ** (9 - worse - gain)
            better += probability * (1.0 if 2 * gain > worse else 0.5 if 2 * gain == worse else 0.0)
    assert compare(a, b).prob_a_better == pytest.approx(better, abs=0.015)
