"""Prefix beam search against sums over all paths (full width) and against a textbook dictionary version (any width);
the compiled kernel also against its reference, on input of any kind."""

import itertools
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkit._native import kernel
from asrkit.decoding import prefix_beam
from asrkit.decoding.prefix_beam import Beams
from asrkit.decoding.reference_beam import BeamSettings, ReferenceBeam
from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.search import BeamResult
from asrkit.errors import AsrkitError
from asrkit.lm import automaton
from asrkit.lm.ngram import NgramLM, train_ngram
from tests.searches import beam_search, prefix_beam_search

needs_kernel = pytest.mark.skipif(kernel("_beam") is None, reason="there is no compiled kernel")
each_implementation = pytest.mark.parametrize(
    "implementation", ["reference", pytest.param("native", marks=needs_kernel)]
)


@dataclass(frozen=True)
class Weights:
    """Of the language model, and what is added for each phone."""

    lm: float
    bonus: float


@dataclass(frozen=True)
class Wild:
    """Log-probabilities as no network should give them: their shape, their scale and what is strange about them."""

    shape: tuple[int, int]
    scale: float
    what: frozenset[str]


@dataclass(frozen=True)
class Width:
    """Of the beam; `threshold` in nats below the best."""

    beam: int
    threshold: float | None


@dataclass(frozen=True)
class LmKind:
    """Order of the language model, 0 for none, and how large its table of contexts may be."""

    order: int
    max_table: int


STRANGE = st.frozensets(st.sampled_from(["normalised", "impossible", "masked", "blank", "float32"]))
LM_KINDS = st.builds(LmKind, order=st.integers(0, 4), max_table=st.sampled_from([0, automaton.MAX_TABLE]))


def search_with(implementation, log_probs, **options):
    chosen = kernel("_beam") if implementation == "native" else None
    with mock.patch.object(prefix_beam, "kernel", lambda name: chosen):
        return prefix_beam_search(log_probs, **options)


def random_log_probs(rng, num_frames, num_classes, sharpness):
    logits = rng.normal(size=(num_frames, num_classes)) * sharpness
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def random_lm(rng, num_phones, order):
    phones = [f"p{i}" for i in range(num_phones)]
    sentences = [rng.choice(phones, size=rng.integers(1, 6)).tolist() for _ in range(rng.integers(1, 8))]
    return train_ngram(sentences, order, phones)


def collapse(path):
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def all_labelings(log_probs):
    """labelling -> log of the sum of its paths' probabilities, by going through every path."""
    sums = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        labeling = collapse(path)
        sums[labeling] = sums.get(labeling, 0.0) + math.exp(sum(log_probs[t, k] for t, k in enumerate(path)))
    return {labeling: math.log(total) for labeling, total in sums.items()}


def textbook_beam(log_probs, beam, lm, lm_weight, bonus, settle_after=math.inf):
    """labelling -> log score without </s>, of the last beam; everything keyed by the labelling itself."""

    def grow(prefix, token):
        if lm is None:
            return bonus
        context = ["<s>", *(lm.phones[t - 1] for t in prefix)]
        return lm_weight * lm.log_prob(lm.phones[token - 1], context) + bonus

    beams = {(): (0.0, -np.inf)}
    num_settled = 0
    for number, frame in enumerate(log_probs, 1):
        new = {}

        def add(prefix, kind, value, new=new):
            pair = list(new.get(prefix, (-np.inf, -np.inf)))
            pair[kind] = np.logaddexp(pair[kind], value)
            new[prefix] = tuple(pair)

        for prefix, (in_blank, in_token) in beams.items():
            both = np.logaddexp(in_blank, in_token)
            add(prefix, 0, both + frame[0])
            for token in range(1, len(frame)):
                if prefix and prefix[-1] == token:
                    add(prefix, 1, in_token + frame[token])
                    add((*prefix, token), 1, in_blank + frame[token] + grow(prefix, token))
                else:
                    add((*prefix, token), 1, both + frame[token] + grow(prefix, token))
        ranked = sorted(new.items(), key=lambda item: -np.logaddexp(*item[1]))
        beams = {prefix: pair for prefix, pair in ranked[:beam] if np.logaddexp(*pair) > -np.inf}
        if number % settle_after == 0:
            best = next(iter(beams))
            begin = best[:num_settled]
            beams = {prefix: beams[prefix] for prefix in beams if prefix[: len(begin)] == begin}
            num_settled = len(best)
    return {prefix: np.logaddexp(*pair) for prefix, pair in beams.items()}


@each_implementation
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(0, 5), st.integers(1, 4)),
    order=st.integers(0, 3),
    lm_weight=st.sampled_from([0.0, 0.7, 2.5]),
    bonus=st.sampled_from([-1.5, 0.0, 0.8]),
)
def test_full_width_equals_all_labelings(implementation, seed, shape, order, lm_weight, bonus):
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, *shape, 2.0)
    lm = random_lm(rng, shape[1] - 1, order) if order and shape[1] > 1 else None
    expected = {}
    for labeling, ctc_log_prob in all_labelings(log_probs).items():
        lm_log_prob = 0.0 if lm is None else lm.score([lm.phones[token - 1] for token in labeling])
        score = ctc_log_prob + lm_weight * lm_log_prob + bonus * len(labeling)
        expected[labeling] = (score, ctc_log_prob, lm_log_prob)
    options = {"lm": lm, "lm_weight": lm_weight, "insertion_bonus": bonus}
    found = search_with(implementation, log_probs, beam=1000, num_best=1000, **options)
    assert len(found) == len(expected)
    assert [result.score for result in found] == sorted((result.score for result in found), reverse=True)
    for result in found:
        assert (result.score, result.ctc_log_prob, result.lm_log_prob) == pytest.approx(
            expected[result.tokens], abs=1e-9
        )


@each_implementation
@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 25), st.integers(2, 5)),
    beam=st.integers(1, 8),
    order=st.integers(0, 3),
    weights=st.builds(Weights, lm=st.sampled_from([0.0, 0.7, 2.5]), bonus=st.sampled_from([-1.0, 0.0, 1.3])),
)
def test_every_width_equals_the_textbook(implementation, seed, shape, beam, order, weights):
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, *shape, 1.5)
    lm = random_lm(rng, shape[1] - 1, order) if order else None
    expected = textbook_beam(log_probs, beam, lm, weights.lm, weights.bonus)
    options = {"lm": lm, "lm_weight": weights.lm, "insertion_bonus": weights.bonus}
    found = search_with(implementation, log_probs, beam=beam, num_best=beam, **options)
    if lm is not None:
        for prefix in expected:
            context = ["<s>", *(lm.phones[token - 1] for token in prefix)]
            expected[prefix] += weights.lm * lm.log_prob("</s>", context)
    assert {result.tokens: result.score for result in found} == pytest.approx(expected, abs=1e-9)
    assert found[0].score == max(result.score for result in found)


def wild_log_probs(rng, wild):
    """No two prefixes have the same score, but for chance."""
    what = wild.what
    log_probs = rng.normal(size=wild.shape) * wild.scale
    if "normalised" in what:
        log_probs -= np.logaddexp.reduce(log_probs, axis=1, keepdims=True)
    if "impossible" in what:
        log_probs[rng.random(log_probs.shape) < 0.3] = -np.inf
    if "masked" in what:
        masks = rng.choice([-720.0, -1400.0, -1e4, -1e9]) * (1 + 1e-3 * rng.random(log_probs.shape))
        log_probs = np.where(rng.random(log_probs.shape) < 0.3, masks, log_probs)
    if "blank" in what:
        shift = rng.choice([500.0, 5000.0, -500.0]) * (1 + 1e-3 * rng.random(len(log_probs)))
        log_probs[:, 0] += shift * (rng.random(len(log_probs)) < 0.8)
    log_probs[np.isneginf(log_probs).all(axis=1)] = 0.0
    return log_probs.astype(np.float32) if "float32" in what else log_probs


def wild_lm(rng, num_phones, order):
    """A model with back-off weights above 1 and n-grams that hardly ever occur."""
    lm = random_lm(rng, num_phones, order)
    rare = float(rng.choice([0.0, 90.0, 300.0]))
    levels = [
        {gram: (p - rare * (rng.random() < 0.3), b + rng.normal()) for gram, (p, b) in level.items()}
        for level in lm.ngrams
    ]
    return NgramLM(lm.phones, tuple(levels))


def search_reference(log_probs, settings, num_best):
    search = ReferenceBeam(log_probs.shape[1], settings)
    assert search.advance(log_probs) == -1
    return [BeamResult(*result) for result in search.best(num_best, True)]


def search_native(log_probs, settings, num_best):
    search = Beams(settings).start_native(kernel("_beam"), log_probs.shape[1])
    assert search.advance(log_probs) == -1
    return [BeamResult(*result) for result in search.best(num_best, True)]


def assert_same(found, expected):
    """Equal results, but that the order of those whose scores are equal up to rounding is anyone's."""
    assert [r.score for r in found] == pytest.approx([r.score for r in expected], rel=1e-9, abs=1e-9)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        around = [r.score for r in expected[max(0, i - 1) : i + 2]]
        if i + 1 < len(expected) and min(-np.diff(around), default=1.0) > 1e-9 * max(1.0, abs(b.score)):
            assert a.tokens == b.tokens
            assert a.lm_log_prob == pytest.approx(b.lm_log_prob, rel=1e-9)


@needs_kernel
@settings(max_examples=500, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    wild=st.builds(
        Wild,
        shape=st.tuples(st.integers(0, 40), st.integers(1, 9)),
        scale=st.sampled_from([0.1, 1.5, 8.0, 60.0, 400.0, 3000.0, 30000.0]),
        what=STRANGE,
    ),
    width=st.builds(
        Width,
        beam=st.sampled_from([1, 2, 3, 5, 10, 30, 100]),
        threshold=st.sampled_from([math.inf, math.inf, 0.5, 50.0, 700.0, 3000.0]),
    ),
    lm_kind=LM_KINDS,
    lm_weight=st.sampled_from([0.0, 0.5, 2.0, 10.0, -1.0]),
    bonus=st.sampled_from([0.0, 1.5, -3.0, 40.0, 200.0, -200.0, 2000.0]),
)
def test_the_kernel_equals_its_reference(seed, wild, width, lm_kind, lm_weight, bonus):
    rng = np.random.default_rng(seed)
    log_probs = wild_log_probs(rng, wild)
    lm = wild_lm(rng, wild.shape[1] - 1, lm_kind.order) if lm_kind.order and wild.shape[1] > 1 else None
    search_settings = BeamSettings(width.beam, width.threshold, TokenScorer(lm and lm.automaton, lm_weight, bonus))
    with mock.patch.object(automaton, "MAX_TABLE", lm_kind.max_table):
        found = search_native(log_probs, search_settings, width.beam + 1)
        assert_same(found, search_reference(log_probs, search_settings, width.beam + 1))


@needs_kernel
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), num_frames=st.integers(100, 400), order=st.integers(0, 3))
def test_the_kernel_equals_its_reference_on_long_peaky_input(seed, num_frames, order):
    """A full beam, long silences, and components that fade away in them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_frames, 12)) * 2.0
    is_token = rng.random(num_frames) < 0.1
    logits[np.arange(num_frames), np.where(is_token, rng.integers(12, size=num_frames), 0)] += 18.0
    log_probs = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    lm = random_lm(rng, 11, order).automaton if order else None
    search_settings = BeamSettings(20, math.inf, TokenScorer(lm, 0.6, 0.7))
    found = search_native(log_probs, search_settings, 20)
    assert_same(found, search_reference(log_probs, search_settings, 20))


@each_implementation
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    wild=st.builds(
        Wild,
        shape=st.tuples(st.integers(0, 60), st.integers(1, 7)),
        scale=st.sampled_from([0.1, 1.5, 8.0, 60.0, 3000.0]),
        what=STRANGE,
    ),
    width=st.builds(Width, beam=st.sampled_from([1, 2, 5, 30]), threshold=st.sampled_from([None, None, 0.5, 50.0])),
    lm_kind=LM_KINDS,
    commits=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_pieces_give_the_bits_of_the_whole(implementation, seed, wild, width, lm_kind, commits):
    rng = np.random.default_rng(seed)
    log_probs, beam = wild_log_probs(rng, wild), width.beam
    lm = wild_lm(rng, wild.shape[1] - 1, lm_kind.order) if lm_kind.order and wild.shape[1] > 1 else None
    options = {"beam": beam, "beam_threshold": width.threshold, "lm": lm, "lm_weight": 0.7, "insertion_bonus": 0.4}
    native = kernel("_beam") if implementation == "native" else None
    with (
        mock.patch.object(automaton, "MAX_TABLE", lm_kind.max_table),
        mock.patch.object(prefix_beam, "kernel", lambda _: native),
    ):
        expected = prefix_beam_search(log_probs, num_best=beam, **options)
        search, committed = beam_search(**options).stream(), ()
        for piece in np.split(log_probs, np.sort(rng.integers(0, len(log_probs) + 1, size=rng.integers(0, 12)))):
            search.advance(piece)
            if rng.random() < 0.5:
                search.best(2)
            if rng.random() < commits:
                committed += search.commit()
        found = [replace(result, tokens=committed + result.tokens) for result in search.finish(beam)]
        assert found == expected
        if lm is None:  # then there is no end to be ranked with
            assert [replace(result, tokens=committed + result.tokens) for result in search.best(beam)] == expected


numbers = st.one_of(
    st.floats(width=64),
    st.sampled_from([0.0, -0.0, -1.0, -math.inf, math.inf, math.nan, 1e100, -1e308, 1e308, 5e-324]),
    st.floats(-50.0, 0.0),
)


@each_implementation
@settings(max_examples=300, deadline=None)
@given(data=st.data(), num_frames=st.integers(0, 6), num_classes=st.integers(0, 5))
def test_any_numbers_at_all_give_a_result_or_one_of_our_errors(implementation, data, num_frames, num_classes):
    size = num_frames * num_classes
    values = data.draw(st.lists(numbers, min_size=size, max_size=size))
    dtype = data.draw(st.sampled_from([np.float64, np.float32, np.float16]))
    with np.errstate(over="ignore"):
        log_probs = np.array(values, dtype=dtype).reshape(num_frames, num_classes)
    phones = [f"p{i}" for i in range(data.draw(st.integers(1, 4)))]
    options = {
        "beam": data.draw(st.sampled_from([-1, 0, 1, 3, 50, 2**31, 2**70])),
        "beam_threshold": data.draw(st.one_of(st.none(), numbers)),
        "num_best": data.draw(st.sampled_from([0, 1, 7, 2**40])),
        "lm": train_ngram([phones], data.draw(st.integers(1, 3)), phones) if data.draw(st.booleans()) else None,
        "lm_weight": data.draw(numbers),
        "insertion_bonus": data.draw(numbers),
    }
    with suppress(AsrkitError):
        for result in search_with(implementation, log_probs, **options):
            assert math.isfinite(result.score)
            assert all(0 < token < num_classes for token in result.tokens)


@each_implementation
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(0, 60), st.integers(2, 5)),
    beam=st.sampled_from([1, 3, 10]),
    order=st.integers(0, 3),
    settle_after=st.integers(1, 20),
)
def test_settled_pieces_give_the_same_however_they_are_cut(implementation, seed, shape, beam, order, settle_after):
    """The same with the textbook's search, from which what differs from the best prefix is taken."""
    rng = np.random.default_rng(seed)
    log_probs = random_log_probs(rng, *shape, 1.5)
    lm = random_lm(rng, shape[1] - 1, order) if order else None
    options = {"beam": beam, "lm": lm, "lm_weight": 0.7, "insertion_bonus": 0.4}
    native = kernel("_beam") if implementation == "native" else None
    with mock.patch.object(prefix_beam, "kernel", lambda _: native):
        found = []
        for num_cuts, commits in ((0, 0.0), (10, 0.0), (10, 0.5)):
            search, committed = beam_search(**options).stream(settle_after), ()
            for piece in np.split(log_probs, np.sort(rng.integers(0, len(log_probs) + 1, size=num_cuts))):
                search.advance(piece)
                if rng.random() < commits:
                    committed += search.commit()
            found.append([replace(result, tokens=committed + result.tokens) for result in search.best(beam)])
    assert found[0] == found[1] == found[2]
    expected = textbook_beam(log_probs, beam, lm, 0.7, 0.4, settle_after)
    assert {result.tokens: result.score for result in found[0]} == pytest.approx(expected, abs=1e-9)
