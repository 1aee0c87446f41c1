"""Settings reach the search, and frames become seconds."""

import numpy as np
import pytest

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.decoder import Decoder
from asrkit.decoding.spans import FrameClock
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.types import PhoneTime

TOKENS = TokenTable(["a", "b"])
# "a", then "b" hardly more probable than "a".
LOG_PROBS = np.log([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.39, 0.41], [0.8, 0.1, 0.1]])


def decode(feats=None, **settings):
    lm = train_ngram([("a", "a")] * 20, 2, TOKENS.phones)
    config = DecodingConfig(**{"insertion_bonus": 0.0, "lm_weight": 0.0, **settings})
    clock = FrameClock(shift=0.01, start=0.0075, skip=3, middle=1.0)
    return Decoder(TOKENS, config, lm, clock)("utt", LOG_PROBS, feats, duration=0.13)


def test_the_language_model_counts_as_much_as_it_weighs():
    assert decode(method="greedy", lm_weight=1.0).phones == ("a", "b")
    assert decode().phones == ("a", "b")
    assert decode(insertion_bonus=1.0).phones == ("a", "b")
    assert decode(lm_weight=1.0, insertion_bonus=1.0).phones == ("a", "a")


def test_the_bonus_makes_hypotheses_longer():
    assert len(decode(insertion_bonus=-5.0).phones) < 2 < len(decode(insertion_bonus=5.0).phones)


def test_times_are_those_of_the_sounds():
    # Frames 0 to 4 sound alike, and so do 5 to 11; the peaks are in steps 0 and 2, that is in frames 1 and 7.
    found = decode(feats=np.repeat([[0.0], [1.0]], [5, 7], axis=0))
    assert found.times == (PhoneTime("a", 0.0, 0.0575), PhoneTime("b", 0.0575, 0.13))
    assert 0 < found.confidences[1] < found.confidences[0] < 1
    assert found.confidence == pytest.approx(np.mean(found.confidences))
    assert decode().times == decode().confidences == ()
