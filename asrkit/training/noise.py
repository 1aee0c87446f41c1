"""Noise for speech, made only from a random generator. `NOISES` has its kinds by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

NoiseName = Literal["white", "pink", "brown", "babble", "hum", "gusts"]

_TOP_OF_HUM = 1000.0  # Hz; mains hum is weak above it
_SLOPES = (0.0, 2.0)  # range of the exponent of gusts, see colored_noise
_SWINGS = (3.0, 9.0)  # range of the standard deviation of the level of gusts, dB
_FASTEST = (0.5, 5.0)  # range of the highest frequency in the level of gusts, Hz


@dataclass(frozen=True)
class Scene:
    """What a noise is made for.

    Attributes:
        num_samples: the length of the noise.
        sample_rate: in Hz.
        talkers: yields samples of other utterances, (n,) each.
    """

    num_samples: int
    sample_rate: int
    talkers: Callable[[np.random.Generator], Iterator[np.ndarray]]


def colored_noise(num_samples: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (num_samples,) float32 whose power falls with frequency to the power of `exponent`.

    0 is white noise, 1 pink, 2 brown.
    """
    if exponent == 0.0:
        return rng.standard_normal(num_samples, np.float32)
    size = 1 << (num_samples - 1).bit_length()  # a fast size for the FFT
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
    spectrum[0] = 0.0
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-exponent / 2)
    return np.fft.irfft(spectrum, size)[:num_samples].astype(np.float32)


def babble(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """The sum of several utterances with the same loudness, (num_samples,). Short ones are repeated."""
    total = np.zeros(scene.num_samples, np.float32)
    for samples in scene.talkers(rng):
        shift = rng.integers(len(samples))
        total += np.resize(np.roll(samples, shift), scene.num_samples) / max(samples.std(), 1.0)
    return total


def hum(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Mains hum, (num_samples,): 50 or 60 Hz and harmonics up to 1 kHz. Harmonic k has an amplitude from 0 to 1/k."""
    rate = scene.sample_rate
    hz = (50, 60)[rng.integers(2)]
    orders = np.arange(1, int(min(_TOP_OF_HUM, (rate - 1) / 2) / hz) + 1)
    spectrum = np.zeros(rate // 2 + 1, np.complex64)  # of one second, a whole number of periods of each harmonic
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    spectrum[orders * hz] = rate / 2 * rng.uniform(0, 1, len(orders)) / orders * np.exp(1j * phases)
    return np.resize(np.fft.irfft(spectrum, rate).astype(np.float32), scene.num_samples)


def gusts(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Noise of any slope whose level rises and falls slowly, like wind, waves or traffic: (num_samples,).

    The level in dB is low-pass Gaussian noise.
    """
    noise = colored_noise(scene.num_samples, rng.uniform(*_SLOPES), rng)
    swing, fastest = rng.uniform(*_SWINGS), rng.uniform(*_FASTEST)
    seconds = scene.num_samples / scene.sample_rate
    num_waves = 1 + int(fastest * (seconds + 1.0))  # one more second, so that beginning and end differ
    size = max(4 * num_waves, 2)
    spectrum = np.zeros(size // 2 + 1, np.complex64)
    spectrum[1 : num_waves + 1] = rng.standard_normal(2 * num_waves, np.float32).view(np.complex64)
    course = np.fft.irfft(spectrum, size)
    at = np.linspace(0.0, size * seconds / (seconds + 1.0), scene.num_samples)
    level = np.interp(at, np.arange(size + 1), np.append(course, course[0])) * (swing / course.std())
    return noise * (10.0 ** (level / 20.0)).astype(np.float32)


def _colored(exponent: float) -> Callable[[Scene, np.random.Generator], np.ndarray]:
    return lambda scene, rng: colored_noise(scene.num_samples, exponent, rng)


NOISES: dict[NoiseName, Callable[[Scene, np.random.Generator], np.ndarray]] = {
    "white": _colored(0.0),
    "pink": _colored(1.0),
    "brown": _colored(2.0),
    "babble": babble,
    "hum": hum,
    "gusts": gusts,
}


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add `noise` to `samples`, (n,) float32 each, at a signal-to-noise ratio of `snr_db` dB.

    Silence stays unchanged.
    """
    power, noise_power = samples.var(dtype=np.float64), noise.var(dtype=np.float64)
    if power == 0.0 or noise_power == 0.0:
        return samples
    return samples + np.float32(np.sqrt(power / noise_power) * 10 ** (-snr_db / 20)) * noise
