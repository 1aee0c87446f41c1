"""Which frames count as speech: against the definition worked out by sorting, and under pauses of every kind."""

from itertools import pairwise

import numpy as np
import pytest

from asrkit.features.cmvn import NORMALIZATIONS
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.speech_frames import LevelScale, SpeechLevels, SpeechStream
from asrkit.types import Waveform

RATE = 16000


def lowest_by_sorting(steps: np.ndarray) -> int:
    """The lowest level that counts, in quarters of a decibel, as docs/features.md says it."""
    last = max(len(steps) - 4, 1)
    peak = max(min(steps[t : t + 5]) for t in range(last))
    audible = sorted(step for step in steps if step >= peak - 240)
    noise = min(audible[-(-len(audible) // 10) - 1], peak)
    loud = peak - int(min(60, 0.7 * (peak - noise)))
    most = int(1.6 * sum(step >= loud for step in steps))
    fitting = [step for step in range(peak - 160, loud + 1) if sum(each >= step for each in steps) <= most]
    return min(fitting)


@pytest.mark.parametrize("seed", range(30))
def test_the_lowest_level_is_the_definitions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = np.concatenate(
        [
            rng.integers(600, 900, rng.integers(1, 60)),
            rng.normal(rng.integers(300, 900), 5, rng.integers(0, 200)).astype(np.int64),
            np.full(rng.integers(0, 200), 324),
        ]
    )
    rng.shuffle(steps)
    levels = SpeechLevels()
    for piece in np.split(steps, np.sort(rng.integers(0, len(steps) + 1, 4))):
        levels.add(piece)
    assert levels.lowest() == lowest_by_sorting(steps)
    assert (steps >= levels.lowest()).any()


def speech(rng: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """Tones and noise whose loudness and pitch change a dozen times a second, over a faint noise."""
    place = np.arange(round(RATE * seconds)) // 1280
    tone = np.sin(np.cumsum(rng.uniform(0.05, 2.5, place[-1] + 1)[place]))
    loudness = 3000 * 10 ** rng.uniform(-1.2, 0, place[-1] + 1)[place]
    return loudness * (tone + 0.3 * rng.normal(0, 1, len(place))) + room(rng, seconds)


def room(rng: np.random.Generator, seconds: float) -> np.ndarray:
    return rng.normal(0, 20, round(RATE * seconds))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_energy": True},
        {"kind": "fbank"},
        {"kind": "fbank", "use_energy": True, "num_mel_bins": 30},
        {"backend": "librosa"},
        {"backend": "librosa", "kind": "fbank"},
    ],
    ids=str,
)
def test_pauses_change_little_and_gain_nothing(settings: dict) -> None:
    if settings.get("backend"):
        pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    config = FeatureConfig(cmvn="speech_utterance", **settings)
    extract, mode = FeatureExtractor(config), config.normalization

    def static(samples: np.ndarray) -> np.ndarray:
        return extract(Waveform(samples.astype(np.float32), RATE))

    said = speech(rng)
    steps = mode.level.steps(static(said))
    louder = mode.level.steps(static(8 * said))
    # Eight times the amplitude is 18.06 dB more, whatever the features are.
    assert np.abs(louder - steps - 72.2).max() < 4
    own = mode.statistics(static(said))
    mean, deviation = own[0, :-1] / own[0, -1], np.sqrt(own[1, :-1] / own[0, -1] - (own[0, :-1] / own[0, -1]) ** 2)
    for pause in (np.zeros(5 * RATE), room(rng, 5.0), room(rng, 5.0) / 20):
        padded = mode.statistics(static(np.concatenate([pause, said, pause])))
        plain = NORMALIZATIONS["utterance"]().statistics(static(np.concatenate([pause, said, pause])))
        shift, plain_shift = (np.abs((s[0, :-1] / s[0, -1] - mean) / deviation).max() for s in (padded, plain))
        assert shift < 0.5 < 0.6 < plain_shift


def test_a_stream_counts_what_is_loud_and_no_pause() -> None:
    rng = np.random.default_rng(1)
    config = FeatureConfig()
    extract, level = FeatureExtractor(config), config.normalization.level
    parts = [room(rng, 4.0), speech(rng, 4.0), room(rng, 30.0), np.zeros(4 * RATE), speech(rng, 4.0)]
    steps = level.steps(extract(Waveform(np.concatenate(parts).astype(np.float32), RATE)))
    whole = SpeechStream()(steps)
    bounds = np.cumsum([0, *(len(part) // 160 for part in parts)])
    shares = [float(whole[begin + 3 : end - 3].mean()) for begin, end in pairwise(bounds)]
    assert shares[0] == shares[3] == 0.0
    assert shares[1] > 0.7 < shares[4]
    assert shares[2] * 3000 < 0.6 * shares[1] * 400  # once as many as there was room for
    stream = SpeechStream()
    pieces = np.split(steps, np.sort(rng.integers(0, len(steps) + 1, 200)))
    np.testing.assert_array_equal(np.concatenate([stream(piece) for piece in pieces]), whole)


def test_a_stream_forgets_who_was_louder_after_30_seconds_and_never_in_them() -> None:
    rng = np.random.default_rng(3)
    config = FeatureConfig()
    extract, level = FeatureExtractor(config), config.normalization.level
    bang, said = 30 * room(rng, 0.2), speech(rng, 50.0) / 20  # the speech is 21 dB quieter than the bang
    steps = level.steps(extract(Waveform(np.concatenate([room(rng, 1.0) / 20, bang, said]).astype(np.float32), RATE)))
    counts = SpeechStream()(steps)
    alone = SpeechStream()(steps[130:])
    assert alone[200:].mean() > 0.6
    assert counts[200:2980].mean() < 0.1
    assert counts[3040:].mean() > 0.9 * alone[3040:].mean()
    again = SpeechStream()(np.concatenate([steps[:130], steps[3000:]]))  # as deaf to what comes now as it was before
    assert again[200:].mean() < 0.1


def test_levels_beyond_the_scale_are_its_ends() -> None:
    steps = LevelScale(1, 1.0).steps(np.array([[-1e30], [-151.0], [-150.0], [0.0], [149.9], [1e30]], np.float32))
    np.testing.assert_array_equal(steps, [0, 0, 0, 600, 1199, 1199])
