"""Sounds of no voice: what each kind is known by in its spectrum and its level, at any rate and length."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from asrkit.training.sounds import KINDS, beats, sound_without_speech, tune, wind

SEEDS = range(20)


@pytest.mark.parametrize("make", [sound_without_speech, *KINDS])
def test_sounds_are_as_long_as_asked_and_drawn(make: Callable[..., np.ndarray]) -> None:
    for num_samples in (1, 2, 3, 400, 20001):
        for seed in SEEDS:
            sound = make(num_samples, 16000, np.random.default_rng(seed))
            assert sound.shape == (num_samples,)
            assert np.isfinite(sound).all()
    np.testing.assert_array_equal(sound, make(num_samples, 16000, np.random.default_rng(seed)))
    assert not np.array_equal(sound, make(num_samples, 16000, np.random.default_rng(seed + 1)))


def test_all_sounds_are_equally_loud() -> None:
    for seed in SEEDS:
        sound = sound_without_speech(16000, 16000, np.random.default_rng(seed))
        assert sound.dtype == np.float32
        assert sound.std() == pytest.approx(1.0, abs=1e-3)


def lines(sound: np.ndarray) -> float:
    """Of 4 s of sound, the share of the power above 200 Hz that lies in lines, ten times above what is beside them.

    Power of noise in a bin is exponentially distributed: (1 + 10 ln 2) / 2**10 = 0.8 % of it.
    """
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))[800:]) ** 2
    return float(power[power > 10 * scipy.ndimage.median_filter(power, 101)].sum() / power.sum())


@pytest.mark.parametrize("rate", [8000, 16000])
def test_tunes_are_tones_below_half_the_rate_and_wind_has_none(rate: int) -> None:
    tunes = [tune(4 * rate, rate, np.random.default_rng(seed)) for seed in SEEDS]
    assert np.quantile([lines(sound) for sound in tunes], 0.2) > 0.5  # very short notes are wide
    for sound in tunes:  # partials that the rate has no room for would come back, and fill the top
        power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
        assert power[-len(power) // 10 :].sum() < 0.02 * power.sum()
    winds = [lines(wind(4 * rate, rate, np.random.default_rng(seed))) for seed in SEEDS]
    assert max(winds) < 0.03


def loudness(sound: np.ndarray, rate: int) -> np.ndarray:
    """The level in nats of each 10 ms."""
    return np.log(sound[: len(sound) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100).std(axis=1) + 1e-6)


def test_beats_begin_at_once_and_die_away() -> None:
    for seed in SEEDS:
        change = np.diff(loudness(beats(4 * 16000, 16000, np.random.default_rng(seed)), 16000))
        rises, falls = change[change > 1.0], change[change < 0.0]
        assert len(rises) >= 4
        assert len(falls) > 2 * len(rises)


def test_wind_changes_slowly() -> None:
    depths = []
    for seed in SEEDS:
        sound = wind(4 * 16000, 16000, np.random.default_rng(seed))
        level = scipy.signal.savgol_filter(loudness(sound, 16000), 21, 1)
        depths.append(level.std())
        assert np.abs(np.diff(level)).max() < 0.5
    assert min(depths) < 0.3 < 0.7 < max(depths)
