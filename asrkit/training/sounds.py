"""Sounds without speech, made only from a random generator: notes, beats and wind.

With them a network learns to find no phones where nobody speaks. Each sound is (num_samples,) float32 with a standard
deviation of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from asrkit.training.noise import colored_noise

_TABLE = 2048  # samples per period of a stored tone
_BOTH = 1 / 3  # share of sounds that combine two kinds
_OCTAVES = 2  # range of the notes of a tune


def sound_without_speech(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A tune, beats or wind, or two of them with levels that differ by up to 6 dB: (num_samples,) float32."""
    num_kinds = 2 if rng.random() < _BOTH else 1
    kinds = rng.choice(len(KINDS), num_kinds, replace=False)
    total = np.zeros(num_samples)
    for kind in kinds.tolist():
        total += _level_one(KINDS[kind](num_samples, sample_rate, rng)) * 10 ** (rng.uniform(-6, 0) / 20)
    return _level_one(total).astype(np.float32)


def tune(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of two to five tones of one instrument, (num_samples,). Its timbre, attack and decay are drawn once.

    A single tone would resemble a held vowel too much, and the network must recognise vowels.
    """
    attack, fade, ring = np.exp(rng.uniform(np.log((0.002, 0.1, 0.5)), np.log((0.1, 8.0, 3.0))))
    vibrato, lowest = rng.choice([0.0, 0.005]), np.exp(rng.uniform(np.log(55), np.log(440)))
    partials, tones = int(rng.integers(1, 24)), int(rng.integers(2, 6))
    spectrum = np.zeros(_TABLE // 2 + 1, complex)
    amplitudes = np.arange(1, partials + 1) ** -rng.uniform(0.5, 2.0) * rng.uniform(0.2, 1.0, partials)
    spectrum[1 : partials + 1] = amplitudes * np.exp(2j * np.pi * rng.random(partials))
    total = np.zeros(num_samples)
    for start, gap in _times(num_samples, sample_rate, (0.12, 1.5), rng):
        seconds = np.arange(min(int(ring * gap), num_samples - start)) / sample_rate
        shape = np.minimum(seconds / attack, 1.0) * np.exp(-fade * seconds)
        shape *= np.minimum(np.arange(len(seconds), 0, -1) / (0.01 * sample_rate), 1.0)  # avoid a click at the end
        for half_tones in rng.integers(12 * _OCTAVES + 1, size=tones):
            hz = lowest * 2 ** (half_tones / 12)
            audible = np.arange(len(spectrum)) * hz < sample_rate / 2
            periods = hz * (seconds + vibrato * np.sin(2 * np.pi * 6 * seconds) / (2 * np.pi * 6)) + rng.random()
            table = np.fft.irfft(np.where(audible, spectrum, 0.0), _TABLE)
            total[start : start + len(seconds)] += shape * table[(periods * _TABLE).astype(int) % _TABLE]
    return total


def beats(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """One to four drums in turn, (num_samples,): coloured noise, a falling tone, or both, which decay."""
    drums = [
        (rng.uniform(-1.5, 2.0), rng.random(), np.exp(rng.uniform(np.log(40), np.log(400))), rng.uniform(6, 80))
        for _ in range(rng.integers(1, 5))
    ]
    total = np.zeros(num_samples)
    for number, (start, _) in enumerate(_times(num_samples, sample_rate, (0.1, 0.6), rng)):
        exponent, share, hz, fade = drums[number % len(drums)]
        seconds = np.arange(min(int(6 / fade * sample_rate), num_samples - start)) / sample_rate
        noise = _level_one(colored_noise(len(seconds), exponent, rng))
        tone = np.sin(2 * np.pi * hz * (seconds + 0.05 * (1 - np.exp(-30 * seconds))))
        total[start : start + len(seconds)] += np.exp(-fade * seconds) * ((1 - share) * noise + share * tone)
    return total


def wind(num_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise whose level (in nats) rises and falls some times per second: (num_samples,)."""
    num_turns = int(num_samples / sample_rate * rng.uniform(0.5, 6)) + 3
    turns = rng.uniform(0.0, 1.5) * rng.standard_normal(num_turns)
    level = np.interp(np.linspace(0, num_turns - 1, num_samples), np.arange(num_turns), turns)
    return colored_noise(num_samples, rng.uniform(0.0, 2.0), rng) * np.exp(level)


KINDS: tuple[Callable[[int, int, np.random.Generator], np.ndarray], ...] = (tune, beats, wind)


def _times(
    num_samples: int, sample_rate: int, seconds: tuple[float, float], rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield the first sample of each note or beat, and the number of samples to the next one. The tempo is drawn."""
    unit, loose = np.exp(rng.uniform(*np.log(seconds))) * sample_rate, rng.choice([0.0, 0.2])
    start = rng.uniform(0, min(unit, num_samples / 2))
    while start < num_samples - 1:
        gap = max(unit * rng.choice([0.5, 1.0, 1.0, 2.0]) * (1 + loose * rng.uniform(-1, 1)), 2.0)
        yield int(start), int(gap)
        start += gap


def _level_one(samples: np.ndarray) -> np.ndarray:
    return samples / max(float(samples.std()), 1e-9)
