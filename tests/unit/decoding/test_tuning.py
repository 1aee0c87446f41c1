"""The search for settings on sets where the best is known from trying everything."""

from dataclasses import replace

import numpy as np
import pytest

from asrkit.decoding import tuning
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.tuning import (
    BONUS_UNIT,
    WEIGHT_UNIT,
    Point,
    StoredSet,
    best_point,
    left_out_counts,
    search_beam,
    search_blank_penalty,
    search_settings,
)
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.scoring.align import align
from asrkit.scoring.per import Counts, pool, score
from asrkit.scoring.protocols import PROTOCOLS

TOKENS = TokenTable(["a", "b", "c"])
START = DecodingConfig(method="greedy", beam_threshold=50.0)


def noisy_set(seed, num_utts=12, noise=1.7, with_lm=True):
    """Utterances in which the phones follow a pattern that the language model knows, in noise."""
    rng = np.random.default_rng(seed)
    refs, log_probs = {}, {}
    for number in range(num_utts):
        start = rng.integers(3)
        ref = [int(start + i) % 3 + 1 for i in range(rng.integers(3, 7))]
        frames = [k for token in ref for k in (token, 0)]
        logits = rng.normal(0, noise, (len(frames), 4))
        logits[np.arange(len(frames)), frames] += 2.5
        refs[f"u{number}"] = TOKENS.decode(ref)
        log_probs[f"u{number}"] = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    lm = train_ngram(refs.values(), 2, TOKENS.phones).automaton if with_lm else None
    return StoredSet(log_probs, refs, TOKENS, lm, PROTOCOLS["as-is"], 2)


def test_counts_are_those_of_the_protocol_however_often_they_are_asked_for():
    data = noisy_set(0)
    hyps = data.search(START)
    expected = score(data.refs, {utt: TOKENS.decode(hyp) for utt, hyp in zip(data.refs, hyps, strict=True)})
    assert data.count(hyps) == data.count(hyps) == tuple(expected.per_utt.values())
    assert pool(data.count(hyps)).num_errors == expected.num_errors > 0


def test_the_penalty_of_blanks_in_greedy_search_has_the_fewest_errors():
    data = noisy_set(2)
    data.log_probs = [utt + 1.5 * (np.arange(4) == 0) for utt in data.log_probs]  # blank wins too often
    found = search_blank_penalty(data)
    assert found.config.method == "greedy" and found.config.blank_penalty > 0
    errors = {i / 4: data.point(replace(found.config, blank_penalty=i / 4)).total.num_errors for i in range(13)}
    assert found.total.num_errors == min(errors.values())
    assert found.config.blank_penalty == min(i for i, number in errors.items() if number == found.total.num_errors)


def test_the_best_point_is_no_worse_than_its_neighbours_and_the_grid():
    data = noisy_set(1)
    points = list(search_settings(data, START))
    best = best_point(points)
    settings = [(point.config.lm_weight, point.config.insertion_bonus) for point in points]
    assert len(set(settings)) == len(settings)
    assert {(0.0, 0.0), (2.0, 3.0), (0.4, -1.0)} <= set(settings)
    assert all(point.config.method == "beam" and point.config.beam_threshold == 50.0 for point in points)
    assert best.total.num_errors == min(point.total.num_errors for point in points)
    assert best.total.num_errors < data.point(START).total.num_errors
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            weight = round(best.config.lm_weight + i * WEIGHT_UNIT, 6)
            bonus = best.config.insertion_bonus + j * BONUS_UNIT
            if weight >= 0:
                assert (weight, bonus) in settings
                other = data.point(replace(best.config, lm_weight=weight, insertion_bonus=bonus))
                assert best.total.num_errors <= other.total.num_errors
    again = list(search_settings(noisy_set(1), START))
    assert [(point.config, point.counts) for point in again] == [(point.config, point.counts) for point in points]


def test_without_a_language_model_the_bonus_alone_is_searched():
    points = list(search_settings(noisy_set(2, with_lm=False), START))
    assert {point.config.lm_weight for point in points} == {0.0}
    assert len(points) > 9


def point(weight, bonus, *errors):
    config = DecodingConfig(lm_weight=weight, insertion_bonus=bonus)
    return Point(config, tuple(Counts(num_ref=10, num_sub=number) for number in errors))


def test_of_equals_the_smaller_settings_win():
    points = [point(0.4, 0.0, 3), point(0.2, 1.0, 3), point(0.2, 0.5, 3), point(0.2, -0.5, 3), point(0.0, 0.0, 4)]
    for order in (points, points[::-1]):
        assert best_point(order) is points[3]


def test_left_out_counts_choose_on_the_others():
    # On y and z together B is better, on x and either of them A.
    a, b = point(0.0, 0.0, 1, 5, 5), point(0.5, 0.0, 9, 2, 4)
    assert [c.num_sub for c in left_out_counts([a, b], ["x", "y", "z"])] == [9, 5, 5]
    assert [c.num_sub for c in left_out_counts([b, a], ["x", "y", "z"])] == [9, 5, 5]
    assert [c.num_sub for c in left_out_counts([a], ["x", "y", "z"])] == [1, 5, 5]
    # Of equals the same wins as in best_point.
    small, large = point(0.2, -0.5, 7, 3), point(0.2, 1.0, 4, 3)
    assert [c.num_sub for c in left_out_counts([large, small], ["x", "y"])] == [7, 3]


def test_the_beam_is_the_smallest_that_is_wide_enough(monkeypatch):
    monkeypatch.setattr(tuning, "BEAMS", (1, 2, 4, 8, 16))
    data = noisy_set(3, num_utts=150, noise=2.5)
    config = DecodingConfig(lm_weight=1.5, insertion_bonus=2.0)
    trials = list(search_beam(data, config))
    assert len(trials) > 1
    for trial in trials:
        hyps, wider = (data.search(replace(config, beam=beam)) for beam in (trial.point.config.beam, trial.wider))
        changed = [(a, b) for a, b in zip(hyps, wider, strict=True) if a != b]
        gain = trial.gain
        assert 0 <= gain.num_improved <= gain.num_changed == len(changed)
        assert gain.num_improved <= gain.num_edits <= sum(len(align(a, b)) for a, b in changed)
        assert gain.num_phones == sum(map(len, wider))
        is_wide_enough = gain.num_edits / gain.num_phones < 0.005 and trial.num_below_reference / trial.num_wrong < 0.01
        assert is_wide_enough == (trial is trials[-1])
    assert [trial.point.config.beam for trial in trials] == [2**i for i in range(len(trials))]


def test_a_beam_is_compared_with_one_16_times_as_wide(monkeypatch):
    data = noisy_set(3, num_utts=1)
    tried = {}
    for beam in (1, 8, 255, 300):
        monkeypatch.setattr(tuning, "BEAMS", (beam,))
        (trial,) = search_beam(data, DecodingConfig())
        tried[trial.point.config.beam] = trial.wider
    assert tried == {1: 16, 8: 128, 255: 4080, 300: 4096}


def test_references_outside_the_tokens_are_wrong_but_no_search_errors():
    data = StoredSet(
        {"u": np.log([[0.1, 0.8, 0.05, 0.05]]), "v": np.log([[0.1, 0.8, 0.05, 0.05]])},
        {"u": ("z",), "v": ("a",)},
        TOKENS,
        None,
        PROTOCOLS["as-is"],
        1,
    )
    found = data.point(DecodingConfig(lm_weight=0.0))
    (pair,) = data.compare_with_references(found, data.search(found.config))
    assert (pair.index, pair.second) == (0, -np.inf)


def test_evidence_is_of_each_phone_that_was_found():
    data = noisy_set(4)
    config = DecodingConfig(lm_weight=0.5, insertion_bonus=0.5)
    hyps = data.search(config)
    evidence, right = data.evidence(config, hyps)
    assert [len(rows) for rows in evidence] == [len(rows) for rows in right] == [len(hyp) for hyp in hyps]
    hits = sum(counts.num_hits for counts in data.count(hyps))
    assert sum(rows.sum() for rows in right) == pytest.approx(hits)
    # The evidence tells right phones from wrong ones.
    rows, outcomes = np.concatenate(evidence), np.concatenate(right)
    assert rows[outcomes == 1, 0].mean() > rows[outcomes == 0, 0].mean() + 0.5
