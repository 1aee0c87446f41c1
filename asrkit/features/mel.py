"""Mel filters, cosine transform and cepstral lifter, as Kaldi's mel-computations.cc defines them."""

from __future__ import annotations

import numpy as np

from asrkit.errors import ConfigError


def hz_to_mel(hz: float | np.ndarray) -> np.ndarray:
    """Frequency in Hz on the mel scale 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    """The inverse of `hz_to_mel`."""
    return 700.0 * np.expm1(np.asarray(mel) / 1127.0)


def warp_hz(hz: np.ndarray, warp: float, sample_rate: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Frequencies in the band divided by `warp`, to change the length of a vocal tract: Kaldi's VtlnWarpFreq.

    Near the ends of the filter bank's band other slopes bring the curve back to the ends themselves; the bends are
    where compute-mfcc-feats has them by default (--vtln-low=100, --vtln-high=-500), moved inwards where that is not
    within the band. Raises ConfigError where no room is left between them.
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
    """Triangular filters (fft_size // 2, num_bins) float64 that turn a power spectrum into mel energies.

    The triangles are equally spaced and straight-sided on the mel scale, not in Hz. FFT bins run from 0 Hz up to,
    but without, half the sampling rate. A filter so narrow that no FFT bin falls into it is all zero. `warp` moves
    the corners of the triangles (`warp_hz`).
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
    """The first `num_ceps` rows of the orthonormal DCT-II: (num_ceps, num_bins) float64."""
    order = np.arange(num_ceps)[:, None]
    matrix = np.sqrt(2.0 / num_bins) * np.cos(np.pi / num_bins * (np.arange(num_bins) + 0.5) * order)
    matrix[0] = np.sqrt(1.0 / num_bins)
    return matrix


def lifter_coefficients(num_ceps: int, lifter: float) -> np.ndarray:
    """Factors (num_ceps,) float64 that bring higher cepstra to the size of lower ones; all 1 when `lifter` is 0."""
    if lifter == 0.0:
        return np.ones(num_ceps)
    return 1.0 + 0.5 * lifter * np.sin(np.pi * np.arange(num_ceps) / lifter)
