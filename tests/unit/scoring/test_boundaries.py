"""Boundary errors counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkit.errors import DataError
from asrkit.scoring.align import align
from asrkit.scoring.boundaries import Errors, _right_pairs, compare_times
from asrkit.types import PhoneTime


def times(text: str, *bounds: float) -> list[PhoneTime]:
    """Phones that touch, between `bounds` in milliseconds."""
    return [
        PhoneTime(phone, start / 1000, end / 1000) for phone, start, end in zip(text, bounds, bounds[1:], strict=False)
    ]


def test_known_phones():
    refs = {"u": times("abc", 0, 100, 200, 300), "v": times("ab", 0, 50, 100)}
    hyps = {"u": times("abc", 0, 105, 160, 290), "v": times("ab", 0, 40, 100)}
    found = compare_times(refs, hyps)
    np.testing.assert_allclose(found.boundaries.seconds, [0.005, -0.040, -0.010])
    assert (found.num_phones, found.num_hyp, found.num_right, found.num_boundaries) == (5, 5, 5, 3)
    assert found.boundaries.share_within(10) == pytest.approx(200 / 3)  # the bound itself is within
    assert found.boundaries.share_within(20) == pytest.approx(200 / 3)
    assert found.boundaries.share_within(50) == 100
    assert found.boundaries.mean_abs_ms == pytest.approx(55 / 3)
    assert found.boundaries.median_abs_ms == pytest.approx(10)
    assert found.boundaries.bias_ms == pytest.approx(-10)
    np.testing.assert_allclose(found.starts["b"].seconds, [0.005, -0.010])
    np.testing.assert_allclose(found.starts["c"].seconds, [-0.040])
    overlaps = [100 / 105, 55 / 100, 90 / 140, 40 / 50, 50 / 60]
    assert found.overlap == pytest.approx(np.mean(overlaps))
    assert found.line() == (
        "boundaries 66.7 % within 10 ms, 66.7 % within 20 ms, 100.0 % within 50 ms; mean 18.3 ms, median 10.0 ms "
        "[ 3 of 3 ]"
    )


def test_only_boundaries_between_two_right_neighbours_count():
    refs = {"u": times("abcd", 0, 100, 200, 300, 400)}
    substituted = compare_times(refs, {"u": times("abxd", 0, 101, 200, 300, 400)})
    np.testing.assert_allclose(substituted.boundaries.seconds, [0.001], atol=1e-9)
    assert (substituted.num_right, substituted.num_boundaries) == (3, 3)
    deleted = compare_times(refs, {"u": times("abd", 0, 102, 250, 400)})
    np.testing.assert_allclose(deleted.boundaries.seconds, [0.002], atol=1e-9)
    inserted = compare_times(refs, {"u": times("abxcd", 0, 103, 150, 200, 304, 400)})
    np.testing.assert_allclose(inserted.boundaries.seconds, [0.003, 0.004], atol=1e-9)
    assert inserted.num_hyp == 5


def test_a_gap_counts_by_its_middle_and_spans_that_do_not_meet_share_nothing():
    refs = {"u": times("ab", 0, 100, 200)}
    hyps = {"u": [PhoneTime("a", 0.0, 0.08), PhoneTime("b", 0.13, 0.2)]}
    np.testing.assert_allclose(compare_times(refs, hyps).boundaries.seconds, [0.005])
    apart = {"u": [PhoneTime("a", 0.3, 0.4), PhoneTime("b", 0.4, 0.5)]}
    assert compare_times(refs, apart).overlap == 0


def test_utterances_without_hypothesis_are_counted_and_strangers_refused():
    refs = {"u": times("ab", 0, 100, 200), "v": times("ab", 0, 100, 200)}
    found = compare_times(refs, {"u": times("ab", 0, 100, 200)})
    assert (found.num_missing, found.num_phones, found.num_boundaries, len(found.boundaries.seconds)) == (1, 4, 2, 1)
    with pytest.raises(DataError, match=r"h\.ctm: utterance w and 1 more not in r\.ctm"):
        compare_times(refs, {"w": refs["u"], "x": refs["u"]}, ref_name="r.ctm", hyp_name="h.ctm")


def test_nothing_in_common_is_null_in_json():
    found = compare_times({"u": times("ab", 0, 100, 200)}, {"u": times("cd", 0, 100, 200)})
    assert math.isnan(found.overlap)
    assert found.to_dict()["overlap"] is None
    assert found.to_dict()["boundaries"] == Errors(np.array([])).to_dict()
    assert found.to_dict()["boundaries"]["within_20_ms"] is None


def test_figures_have_four_decimals():
    found = Errors(np.array([0.01234567, -0.03, 0.02])).to_dict()
    assert found == {
        "num": 3,
        "within_10_ms": 0.0,
        "within_20_ms": 66.6667,
        "within_50_ms": 100.0,
        "mean_abs_ms": 20.7819,
        "median_abs_ms": 20.0,
        "bias_ms": 12.3457,
    }


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_right_pairs_are_those_of_the_whole_alignment(ref: list[str], hyp: list[str]) -> None:
    expected, i, j = [], 0, 0
    for left, right in align(ref, hyp) if ref != hyp else zip(ref, hyp, strict=True):
        if left is not None and left == right:
            expected.append((i, j))
        i += left is not None
        j += right is not None
    assert _right_pairs(ref, hyp) == expected


@given(st.lists(st.sampled_from("abc"), max_size=10), st.lists(st.sampled_from("abcd"), max_size=10))
def test_alignment_by_bits_is_that_of_the_table_of_costs(ref: list[str], hyp: list[str]) -> None:
    assert align(ref, hyp) == align(ref, hyp, {"a phone that is in neither"})


spans = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300), st.integers(0, 300)), max_size=6)


@given(st.lists(st.tuples(spans, spans), max_size=5))
def test_figures_of_all_utterances_are_those_of_a_loop_over_their_pairs(utts: list) -> None:
    sides = [
        {
            str(number): [PhoneTime(phone, start / 1000, (start + length) / 1000) for phone, start, length in utt[side]]
            for number, utt in enumerate(utts)
        }
        for side in (0, 1)
    ]
    errors, overlaps = [], []
    for utt, ref in sides[0].items():
        hyp = sides[1][utt]
        pairs = _right_pairs([time.phone for time in ref], [time.phone for time in hyp])
        for i, j in pairs:
            a, b = ref[i], hyp[j]
            union = max(a.end, b.end) - min(a.start, b.start)
            overlaps.append(max(min(a.end, b.end) - max(a.start, b.start), 0) / union if union > 0 else 0)
            if (i + 1, j + 1) in pairs:
                found, true = ((side[k].end + side[k + 1].start) / 2 for side, k in ((hyp, j), (ref, i)))
                errors.append((found - true, ref[i + 1].phone))
    result = compare_times(*sides)
    assert result.boundaries.seconds.tolist() == [error for error, _ in errors]
    for phone in "ab":
        of_phone = [error for error, into in errors if into == phone]
        assert (result.starts[phone].seconds.tolist() if phone in result.starts else []) == of_phone
    assert result.num_right == len(overlaps)
    if overlaps:
        assert result.overlap == pytest.approx(np.mean(overlaps))
