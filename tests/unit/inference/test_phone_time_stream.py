"""What is held of a long recording, and where it is cut."""

import numpy as np
import pytest

from asrkit.decoding.scorer import TokenScorer
from asrkit.features.config import FeatureConfig
from asrkit.inference.frame_clock import FrameClock
from asrkit.inference.model import Outputs
from asrkit.inference.phone_time_stream import FullFeatures, PhoneTimeStream
from asrkit.inference.phone_timer import PhoneTimer
from asrkit.lang.tokens import TokenTable

CLOCK = FrameClock(shift=0.01, start=0.0, skip=2, middle=0.5)
CONFIG = FeatureConfig(num_ceps=1, num_mel_bins=3, delta_order=0, cmvn="none")


class Noise:
    """A recording of noise."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self._frames = np.random.default_rng(0).normal(0, 1, (num_frames, 1)).astype(np.float32)

    def read(self, begin: int, end: int) -> np.ndarray:
        return self._frames[begin:end]


def make_stream(num_steps: int) -> PhoneTimeStream:
    features = FullFeatures(Noise(2 * num_steps), np.zeros((2, 2)), CONFIG)
    return PhoneTimeStream(PhoneTimer(TokenTable(["a", "b"]), CLOCK, TokenScorer()), features, "utt", None)


def steps(path: list[int]) -> Outputs:
    """Log-probabilities of three classes, nearly sure of this path."""
    return Outputs(np.log(np.where(np.arange(3) == np.array(path)[:, None], 0.98, 0.01)))


def test_five_minutes_without_a_phone_are_cut():
    """A step is 20 ms: 15000 of them are 300 s, of which the last 10 s stay."""
    stream = make_stream(16000)
    held = []
    for _ in range(16):
        stream.accept(steps([0] * 1000))
        used_up = stream.time((), ())
        held.append(stream.num_held)
    assert held == [1000 * (i + 1) for i in range(15)] + [500]
    assert stream.first_step == used_up == 15500
    assert stream.times == []


@pytest.mark.parametrize("gap", [4, 9])
def test_what_is_timed_is_cut_in_the_middle_between_two_phones(gap):
    """Each phone is emitted for 2 steps, then `gap` blanks; 16 phones stay before the first that is not timed yet."""
    number = 40
    stream = make_stream(number * (2 + gap))
    stream.accept(steps(([1] * 2 + [0] * gap + [2] * 2 + [0] * gap) * (number // 2)))
    used_up = stream.time((1, 2) * (number // 2), ())
    assert len(stream.times) == number - 16
    assert stream.pending == (1, 2) * 8
    last_end = (number - 32) * (2 + gap) - gap  # of the last phone that is dropped
    assert stream.first_step == last_end + (gap + 1) // 2
    assert used_up == stream.first_step - (number - 32)
    assert stream.num_held == number * (2 + gap) - stream.first_step
