"""Noise: colours and hum by their spectra. Its level and babble: test_augment.py."""

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.signal

from asrkit.training.noise import NOISES, NoiseName, Scene


def nobody(rng: np.random.Generator) -> Iterator[np.ndarray]:
    raise AssertionError("only babble needs talkers")


@pytest.mark.parametrize(("name", "slope"), [("white", 0.0), ("pink", -1.0), ("brown", -2.0)])
def test_noise_has_its_colour(name: NoiseName, slope: float) -> None:
    noise = NOISES[name](Scene(200_000, 16000, nobody), np.random.default_rng(1))
    hz, power = scipy.signal.welch(noise, 16000, nperseg=4096)
    band = (hz > 50) & (hz < 7000)
    assert np.polyfit(np.log(hz[band]), np.log(power[band]), 1)[0] == pytest.approx(slope, abs=0.03)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_hum_is_harmonics_of_the_mains(rate: int) -> None:
    mains = set()
    for seed in range(10):
        noise = NOISES["hum"](Scene(3 * rate, rate, nobody), np.random.default_rng(seed))
        amplitudes = np.abs(np.fft.rfft(noise)) / (1.5 * rate)  # of whole periods, every 1/3 Hz
        found = np.flatnonzero(amplitudes > 1e-5) / 3
        base = 50 if set(found) <= {50.0 * k for k in range(1, 21)} else 60
        mains.add(base)
        assert set(found) <= {float(base * k) for k in range(1, 1000 // base + 1)}
        assert len(found) >= 8
        assert (amplitudes[np.rint(3 * found).astype(int)] <= base / found + 1e-5).all()
    assert mains == {50, 60}


@pytest.mark.parametrize("num_samples", [40_000, 400_000])
def test_gusts_rise_and_fall_slowly(num_samples: int) -> None:
    size, swings = 400, []  # frames of 25 ms: slow changes are the same within one
    for seed in range(20):
        noise = NOISES["gusts"](Scene(num_samples, 16000, nobody), np.random.default_rng(seed))
        white = np.diff(noise, 2, prepend=[0, 0])  # brown noise is no measure of the level of 25 ms
        level = 10 * np.log10(np.square(white.reshape(-1, size)).mean(axis=1))
        power = np.abs(np.fft.rfft(level - level.mean())) ** 2
        hz = np.fft.rfftfreq(len(level), size / 16000)
        assert power[hz > 6].sum() < 0.2 * power.sum()
        swings.append(level.std())
    assert 2 < min(swings) < 5 < max(swings) < 11
    noises = [NOISES["gusts"](Scene(200_000, 16000, nobody), np.random.default_rng(seed)) for seed in range(20)]
    slopes = []
    for noise in noises:
        hz, power = scipy.signal.welch(noise, 16000, nperseg=4096)
        band = (hz > 50) & (hz < 7000)
        slopes.append(np.polyfit(np.log(hz[band]), np.log(power[band]), 1)[0])
    assert -2.1 < min(slopes) < -1.5
    assert -0.5 < max(slopes) < 0.1


@pytest.mark.parametrize("name", ["white", "pink", "brown", "hum", "gusts"])
def test_noise_is_as_long_as_asked_and_drawn(name: NoiseName) -> None:
    for num_samples in (1, 2, 400, 20001):
        scene = Scene(num_samples, 16000, nobody)
        noise = NOISES[name](scene, np.random.default_rng(1))
        assert noise.shape == (num_samples,)
        assert noise.dtype == np.float32
        assert np.isfinite(noise).all()
        np.testing.assert_array_equal(noise, NOISES[name](scene, np.random.default_rng(1)))
    assert not np.array_equal(noise, NOISES[name](scene, np.random.default_rng(2)))
