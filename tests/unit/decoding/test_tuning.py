"""The search for settings on sets where the best is known from trying everything."""

from dataclasses import replace

import numpy as np
import pytest

from asrkit.decoding import methods, tuning
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forward import ctc_log_probs
from asrkit.decoding.methods import SearchModels
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.tuning import (
    BONUS_UNIT,
    WEIGHT_UNIT,
    Point,
    StoredSet,
    best_point,
    count_left_out,
    leave_out,
    search_beam,
    search_blank_penalty,
    search_settings,
    tune_search,
)
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.scoring.align import align
from asrkit.scoring.per import Counts, pool, score
from asrkit.scoring.protocols import PROTOCOLS
from tests.language_models import random_network

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
    return StoredSet(log_probs, refs, TOKENS, SearchModels(lm), PROTOCOLS["as-is"], 2)


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


def test_a_network_is_tuned_as_an_ngram_is(monkeypatch):
    """The best of a small grid, and what confidences are made from."""
    for name, units in (("WEIGHTS", range(0, 5, 2)), ("BONUSES", range(0, 3, 2)), ("COARSE", 0)):
        monkeypatch.setattr(tuning, name, units)
    data = noisy_set(4, num_utts=2)
    data.models = SearchModels(random_network("gru", TOKENS.phones))
    points = list(search_settings(data, START))
    assert {each.config.lm_weight for each in points} == {0.0, 0.2, 0.4}
    best = best_point(points)
    assert best.total.num_errors == min(each.total.num_errors for each in points)
    config = replace(best.config, lm_weight=0.4)
    hyps = data.search(config)
    evidence, _ = data.evidence(config, hyps)
    assert [each.shape for each in evidence] == [(len(hyp), 4) for hyp in hyps]
    pairs = data.compare_with_references(data.point(config), hyps)
    assert pairs
    lm = data.models.lm
    for pair in pairs:
        log_prob = ctc_log_probs(data.log_probs[pair.index], [hyps[pair.index]])[0]
        score = log_prob + 0.4 * lm.score(TOKENS.decode(hyps[pair.index]))
        score += config.insertion_bonus * len(hyps[pair.index])
        assert pair.first == pytest.approx(score, abs=1e-9)


def point(weight, bonus, *errors):
    config = DecodingConfig(lm_weight=weight, insertion_bonus=bonus)
    return Point(config, tuple(Counts(num_ref=10, num_sub=number) for number in errors))


def test_of_equals_the_smaller_settings_win():
    points = [point(0.4, 0.0, 3), point(0.2, 1.0, 3), point(0.2, 0.5, 3), point(0.2, -0.5, 3), point(0.0, 0.0, 4)]
    for order in (points, points[::-1]):
        assert best_point(order) is points[3]


def some_of(data, utt_ids):
    """A set of its own of these utterances."""
    log_probs = dict(zip(data.refs, data.log_probs, strict=True))
    refs = {utt_id: data.refs[utt_id] for utt_id in utt_ids}
    return StoredSet({utt_id: log_probs[utt_id] for utt_id in refs}, refs, TOKENS, data.models, data.protocol, 1)


@pytest.mark.parametrize("with_lm", [True, False])
@pytest.mark.parametrize("num_speakers", [4, 1])
def test_what_is_left_out_is_counted_with_what_is_chosen_on_the_others(num_speakers, with_lm):
    data = noisy_set(5, noise=2.2, with_lm=with_lm)
    speakers = [f"s{index % num_speakers}" for index in range(len(data.refs))]
    tuned = tune_search(data, START)
    left_out = leave_out(data, START, 64, speakers)
    groups = speakers if num_speakers > 1 else list(data.refs)
    assert left_out.unit == ("speakers" if num_speakers > 1 else "utterances")
    assert left_out.num_units == len(left_out.folds) == len(set(groups))
    expected, expected_greedy = {}, {}
    for group in set(groups):
        inside, others = (
            some_of(data, [utt for utt, its in zip(data.refs, groups, strict=True) if (its == group) == is_in])
            for is_in in (True, False)
        )
        config = replace(best_point(search_settings(others, START)).config, beam=64)
        expected |= zip(inside.refs, inside.point(config).counts, strict=True)
        greedy = search_blank_penalty(others).config
        expected_greedy |= zip(inside.refs, inside.point(greedy).counts, strict=True)
    assert dict(zip(data.refs, count_left_out(data, left_out), strict=True)) == expected
    counts = count_left_out(data, left_out, lambda fold: fold.greedy)
    assert dict(zip(data.refs, counts, strict=True)) == expected_greedy
    # Some of what was chosen differs, and the choice on all is what it was.
    assert len({fold.config for fold in left_out.folds}) > 1
    again = tune_search(noisy_set(5, noise=2.2, with_lm=with_lm), START)
    assert (again.config, again.winner.counts) == (tuned.config, tuned.winner.counts)


def test_many_speakers_are_left_out_in_groups_and_one_utterance_cannot_be():
    data = noisy_set(6, num_utts=50)
    speakers = [f"s{index // 2}" for index in range(50)]
    left_out = leave_out(data, START, 16, speakers)
    assert (left_out.unit, left_out.num_units, len(left_out.folds)) == ("speakers", 25, 20)
    assert sorted(index for fold in left_out.folds for index in fold.members) == list(range(50))
    for fold in left_out.folds:
        inside = {speakers[index] for index in fold.members}
        assert len(inside) in (1, 2)
        assert all((speaker in inside) == (index in fold.members) for index, speaker in enumerate(speakers))
    assert leave_out(noisy_set(6, num_utts=1), START, 16, ["s0"]) is None


def test_no_utterance_is_searched_twice_with_the_same_settings(monkeypatch):
    searched = []

    class Recorder(BeamSearch):
        def __init__(self, config, lm):
            super().__init__(config, lm)
            self.config = config

        def decode_all(self, log_probs, num_threads):
            searched.extend((self.config, id(utt)) for utt in log_probs)
            return super().decode_all(log_probs, num_threads)

    monkeypatch.setitem(methods.SEARCHES, "beam", Recorder)
    data = noisy_set(5)
    tuned = tune_search(data, START)
    num_first = len(searched)
    left_out = leave_out(data, START, tuned.config.beam, [f"s{index % 4}" for index in range(len(data.refs))])
    count_left_out(data, left_out)
    assert num_first < len(searched) == len(set(searched)) < 1.5 * num_first


class ChanceSet(StoredSet):
    """Every setting has the same errors in truth: each of 10 phones is wrong with the speaker's probability."""

    def __init__(self, rng, num_speakers, num_utts):
        refs = {f"u{index}": ("a",) * 10 for index in range(num_speakers * num_utts)}
        models = SearchModels(train_ngram([("a", "b")], 1, TOKENS.phones).automaton)
        super().__init__(dict.fromkeys(refs, np.zeros((1, 4))), refs, TOKENS, models, PROTOCOLS["as-is"], 1)
        self.speakers = [f"s{index // num_utts}" for index in range(len(refs))]
        self.rates = np.repeat(rng.uniform(0.1, 0.5, num_speakers), num_utts)
        self._rng = rng

    def search_some(self, config, members):
        if config not in self._searched:
            wrong = self._rng.binomial(10, self.rates)
            hyps = [(2,) * number + (1,) * (10 - number) for number in wrong.tolist()]
            self._searched[config] = dict(enumerate(hyps))
        return [self._searched[config][index] for index in members]


def test_left_out_errors_are_not_favored_by_chance_as_those_chosen_on_are(monkeypatch):
    monkeypatch.setattr(tuning, "WEIGHTS", range(0, 9, 2))
    monkeypatch.setattr(tuning, "BONUSES", range(-4, 5, 2))
    monkeypatch.setattr(tuning, "BEAMS", (tuning.GRID_BEAM,))  # the rule of beams has no part in it
    monkeypatch.setattr(StoredSet, "compare_with_references", lambda *_: [])
    monkeypatch.setattr(StoredSet, "gain", lambda *_: tuning.Gain(0, 0, 0, 1))
    monkeypatch.setattr(tuning, "track", lambda items, *_: items)
    rng = np.random.default_rng(0)
    favors = {"chosen on": [], "left out": [], "chosen on, greedy": [], "left out, greedy": []}
    for _ in range(50):
        data = ChanceSet(rng, 5, 4)
        truth = 100 * data.rates.mean()
        tuned, left_out = tune_search(data, START), leave_out(data, START, tuning.GRID_BEAM, data.speakers)
        favors["chosen on"].append(tuned.winner.total.per - truth)
        favors["left out"].append(pool(count_left_out(data, left_out)).per - truth)
        favors["chosen on, greedy"].append(tuned.greedy.total.per - truth)
        greedy = count_left_out(data, left_out, lambda fold: fold.greedy)
        favors["left out, greedy"].append(pool(greedy).per - truth)
    means = {name: np.mean(values) for name, values in favors.items()}
    errors = {name: np.std(values) / np.sqrt(len(values)) for name, values in favors.items()}
    assert means["chosen on"] < -4 and means["chosen on, greedy"] < -3
    assert abs(means["left out"]) < 2.5 * errors["left out"] < 2
    assert abs(means["left out, greedy"]) < 2.5 * errors["left out, greedy"] < 2


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
        SearchModels(),
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
