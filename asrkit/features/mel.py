"""Mel filters, cosine transform and cepstral lifter, as in Kaldi's mel-computations.cc."""

from __future__ import annotations

import numpy as np

from asrkit.errors import ConfigError


def hz_to_mel(hz: float | np.ndarray) -> np.ndarray:
    """The mel values 1127 ln(1 + hz / 700) of the frequencies `hz` (Hz), of the same shape, float64."""
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """The frequencies in Hz of the values `mel`, of the same shape, float64: the inverse of `hz_to_mel`."""
    return 700.0 * np.expm1(np.asarray(mel) / 1127.0)


def warp_hz(hz: np.ndarray, warp: float, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Warp the frequencies `hz` (n,) to simulate another length of the vocal tract: (n,), in Hz.

    Within the band from `low_hz` to `high_hz`, frequencies are divided by `warp`. Near the ends of the band, the slope
    changes so that the ends stay where they are. The bends are at the defaults of compute-mfcc-feats (--vtln-low=100,
    --vtln-high=-500), or further inside if those are outside the band. Source: Kaldi's VtlnWarpFreq.

    Raises ConfigError if the band is too narrow for the bends.
    """
    low_cutoff = 100.0 if low_hz < 100.0 else 1.2 * low_hz
    high_cutoff = sample_rate / 2 - 500.0
    if high_cutoff >= high_hz:
        high_cutoff = 0.95 * high_hz
    below, above = low_cutoff * max(1.0, warp), high_cutoff * min(1.0, warp)
    if below >= above:
        raise ConfigError(f"a band of {low_hz:g} to {high_hz:g} Hz is too narrow for a warp of {warp:g}; widen it")
    return np.interp(hz, [low_hz, below, above, high_hz], [low_hz, below / warp, above / warp, high_hz])


def mel_filters(
    num_bins: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float, warp: float = 1.0
) -> np.ndarray:
    """Triangular filters (fft_size // 2, num_bins) float64 that convert a power spectrum to mel energies.

    The triangles are equally spaced, and have straight sides, on the mel scale (not in Hz). The FFT bins range from 0
    Hz to half the sampling rate, which is excluded. A filter that is too narrow to contain an FFT bin is all zero.
    `warp` moves the corners of the triangles (`warp_hz`). Raises ConfigError as `warp_hz`.
    """
    edges = np.linspace(hz_to_mel(low_hz), hz_to_mel(high_hz), num_bins + 2)
    if warp != 1.0:
        edges = hz_to_mel(warp_hz(mel_to_hz(edges), warp, sample_rate, low_hz, high_hz))
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    mel = hz_to_mel(np.arange(fft_size // 2) * (sample_rate / fft_size))[:, None]
    rising = (mel - left) / (center - left)
    falling = (right - mel) / (right - center)
    return np.maximum(0.0, np.minimum(rising, falling))


def dct_matrix(num_ceps: int, num_bins: int) -> np.ndarray:
    """The first `num_ceps` rows of the orthonormal cosine transform (DCT-II): (num_ceps, num_bins) float64."""
    order = np.arange(num_ceps)[:, None]
    matrix = np.sqrt(2.0 / num_bins) * np.cos(np.pi / num_bins * (np.arange(num_bins) + 0.5) * order)
    matrix[0] = np.sqrt(1.0 / num_bins)
    return matrix


def lifter_coefficients(num_ceps: int, lifter: float) -> np.ndarray:
    """Factors (num_ceps,) float64 that scale higher cepstra to the size of lower ones; all 1 if `lifter` is 0."""
    if lifter == 0.0:
        return np.ones(num_ceps)
    return 1.0 + 0.5 * lifter * np.sin(np.pi * np.arange(num_ceps) / lifter)
