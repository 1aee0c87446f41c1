"""Settings reach the search, frames become seconds, and confidences are those of the search's settings."""

from dataclasses import astuple

import numpy as np
import pytest

from asrkit.decoding.confidence import Calibration, phone_evidence
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.methods import make_search
from asrkit.decoding.scorer import TokenScorer
from asrkit.features.config import FeatureConfig
from asrkit.inference.frame_clock import AudioEnd, FrameClock, frame_clock
from asrkit.inference.hypothesis import add_times, make_hypothesis
from asrkit.inference.model import Outputs
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.models.config import ModelConfig
from asrkit.types import Hypothesis, PhoneTime

TOKENS = TokenTable(["a", "b"])
# "a", then "b" hardly more probable than "a".
LOG_PROBS = np.log([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.39, 0.41], [0.8, 0.1, 0.1]])


CLOCK = FrameClock(shift=0.01, start=0.0075, skip=3, middle=1.0)


class Decoder:
    """A search with these settings, and the timer of what it finds."""

    def __init__(self, calibration=None, **settings):
        lm = train_ngram([("a", "a")] * 20, 2, TOKENS.phones)
        config = DecodingConfig(**{"insertion_bonus": 0.0, "lm_weight": 0.0, **settings})
        self.search = make_search(config, lm.automaton)
        self.timer = PhoneTimer(TOKENS, CLOCK, self.search.scorer, calibration)

    def __call__(self, log_probs, feats=None, duration=None) -> Hypothesis:
        results = self.search.decode(log_probs)
        hypothesis = make_hypothesis("utt", TOKENS, results)
        if feats is None:
            return hypothesis
        audio_end = CLOCK.shortest(len(feats)) if duration is None else AudioEnd(len(feats), duration)
        stretch = Stretch("utt", audio_end)
        timed = self.timer.time(Outputs(log_probs), feats, results[0].tokens, stretch)
        return add_times(hypothesis, timed.times, self.timer.confidences(timed.evidence))


def decode(**settings):
    return Decoder(**settings)(LOG_PROBS)


def test_the_language_model_counts_as_much_as_it_weighs():
    assert decode(method="greedy", lm_weight=1.0).phones == ("a", "b")
    assert decode().phones == ("a", "b")
    assert decode(insertion_bonus=1.0).phones == ("a", "b")
    assert decode(lm_weight=1.0, insertion_bonus=1.0).phones == ("a", "a")


def test_the_bonus_makes_hypotheses_longer():
    assert len(decode(insertion_bonus=-5.0).phones) < 2 < len(decode(insertion_bonus=5.0).phones)


def test_times_are_those_of_the_sounds():
    # Frames 0 to 4 sound alike, and so do 5 to 11; the peaks are in steps 0 and 2, that is in frames 1 and 7.
    feats = np.repeat([[0.0], [1.0]], [5, 7], axis=0)
    found = Decoder()(LOG_PROBS, feats, duration=0.13)
    assert found.times == (PhoneTime("a", 0.0, 0.0575), PhoneTime("b", 0.0575, 0.13))
    assert 0 < found.confidences[1] < found.confidences[0] < 1
    assert decode().times == decode().confidences == ()
    assert decode().confidence is None


def make_evidence(phones, scorer):
    return phone_evidence(LOG_PROBS, forced_align(LOG_PROBS, TOKENS.encode(phones)), scorer)


def test_confidences_are_those_of_the_evidence_under_the_settings_of_the_search():
    feats = np.repeat(np.eye(4), 3, axis=0)
    for settings in ({}, {"lm_weight": 0.5, "insertion_bonus": 1.0}, {"method": "greedy", "lm_weight": 0.5}):
        calibration = Calibration(0.7, 0.2, 0.1, 0.4, -0.3)
        decoder = Decoder(calibration, **settings)
        found = decoder(LOG_PROBS, feats)
        lm = train_ngram([("a", "a")] * 20, 2, TOKENS.phones).automaton
        searched = TokenScorer(lm, 0.5, 1.0) if "insertion_bonus" in settings else TokenScorer()
        evidence = make_evidence(found.phones, searched)
        assert found.confidences == pytest.approx(tuple(calibration(evidence)))
        assert found.confidence == pytest.approx(np.mean(found.confidences))
    raw = Decoder()(LOG_PROBS, feats)
    assert raw.confidences == pytest.approx(tuple(Calibration()(make_evidence(("a", "b"), TokenScorer()))))


def test_the_settings_of_beam_search_are_none_of_greedy_searchs():
    feats = np.repeat(np.eye(4), 3, axis=0)
    plain = Decoder(method="greedy")(LOG_PROBS, feats)
    assert plain.phones == ("a", "b")
    assert Decoder(method="greedy", insertion_bonus=3.0, lm_weight=2.0)(LOG_PROBS, feats) == plain


def test_nothing_found_is_nothing_to_trust():
    blanks = np.log(np.tile([0.98, 0.01, 0.01], (4, 1)))
    found = Decoder()(blanks, np.zeros((12, 2)))
    assert (found.phones, found.times, found.confidences, found.confidence) == ((), (), (), 0.0)


def test_the_n_best_begin_with_the_best_and_end_with_the_beam():
    decoder = Decoder(beam=5)
    found = decoder.search.decode(LOG_PROBS, 100)
    assert len(found) == 5
    assert found[0].tokens == tuple(TOKENS.encode(decode(beam=5).phones))
    assert [result.score for result in found] == sorted((result.score for result in found), reverse=True)
    assert len(Decoder(method="greedy").search.decode(LOG_PROBS, 3)) == 1


def test_frames_become_seconds_and_the_edges_the_audios():
    times = CLOCK.phone_times("ab", np.array([0, 10]), np.array([10, 20]), AudioEnd(20, 0.22))
    middle = pytest.approx(0.1075)
    assert times == (PhoneTime("a", 0.0, middle), PhoneTime("b", middle, 0.22))
    inner = CLOCK.phone_times("a", np.array([1]), np.array([19]), CLOCK.shortest(20))
    assert inner == (PhoneTime("a", pytest.approx(0.0175), pytest.approx(0.1975)),)
    assert CLOCK.phone_times("a", np.array([0]), np.array([20]), CLOCK.shortest(20))[0].end == pytest.approx(0.215)


def test_while_a_recording_is_going_on_no_frame_is_its_last():
    times = CLOCK.phone_times("ab", np.array([0, 10]), np.array([10, 20]), None)
    assert times[0] == PhoneTime("a", 0.0, pytest.approx(0.1075))
    assert times[1] == PhoneTime("b", pytest.approx(0.1075), pytest.approx(0.2075))
    assert CLOCK.phone_times("a", np.array([0]), np.array([0]), None) == (PhoneTime("a", 0.0, pytest.approx(0.0075)),)


@pytest.mark.parametrize(
    ("features", "model", "expected"),
    [  # the first stretch starts half a shift before the middle of frame 0; a step's middle is that of its frames
        ({}, {"stack": 3, "skip": 3}, FrameClock(0.01, 0.0075, skip=3, middle=1.0)),
        ({}, {"stack": 4, "skip": 2}, FrameClock(0.01, 0.0075, skip=2, middle=1.5)),
        ({"snip_edges": False}, {"stack": 1, "skip": 1}, FrameClock(0.01, 0.0, skip=1, middle=0.0)),
        ({"frame_shift_ms": 8.0}, {"stack": 11, "skip": 1}, FrameClock(0.008, 0.0085, skip=1, middle=5.0)),
        ({"backend": "librosa"}, {"stack": 1, "skip": 1}, FrameClock(0.01, 0.011, skip=1, middle=0.0)),
        (
            {"backend": "librosa", "snip_edges": False},
            {"stack": 1, "skip": 1},
            FrameClock(0.01, -0.005, skip=1, middle=0.0),
        ),
    ],
)
def test_the_clock_of_a_model(features, model, expected):
    clock = frame_clock(FeatureConfig(**features), ModelConfig(**model))
    assert astuple(clock) == pytest.approx(astuple(expected))
    assert clock.step == pytest.approx(expected.shift * expected.skip)


@pytest.mark.parametrize("by_frame", [False, True])
def test_what_rows_stand_for_is_said_and_not_guessed(by_frame):
    """A step for each frame, and still a step's middle is not the frame of its number: stack 11, skip 1."""
    tokens = TokenTable(["a", "b"])
    timer = PhoneTimer(tokens, FrameClock(0.01, 0.0, skip=1, middle=5.0), TokenScorer())
    # "a" lasts until frame 20; the peaks are in frames 17 and 22, either side of that.
    log_probs = np.log(np.tile([0.98, 0.01, 0.01], (40, 1)))
    for frame, token in ((17, 1), (22, 2)):
        log_probs[frame if by_frame else frame - 5] = np.log(np.where(np.arange(3) == token, 0.98, 0.01))
    feats = np.repeat([[0.0], [1.0]], [20, 20], axis=0)
    stretch = Stretch("utt", AudioEnd(40, 0.4))
    first, second = timer.time(Outputs(log_probs, by_frame=by_frame), feats, (1, 2), stretch).times
    assert (first.end, second.start) == pytest.approx((0.2, 0.2))
