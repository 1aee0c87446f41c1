"""Static features in NumPy. They define the results of the compiled kernel, and replace it if it is missing.

Frames are processed in blocks that fit into the processor's cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from asrkit.errors import ConfigError
from asrkit.features.backends.interface import BackendName, FeatureBackend
from asrkit.features.mel import dct_matrix, lifter_coefficients, mel_filters
from asrkit.features.window import frame_view, mirrored, window_function

if TYPE_CHECKING:
    from asrkit.features.config import FeatureConfig

_BLOCK = 128
_EPSILON = np.finfo(np.float32).eps  # Kaldi's floor for the argument of every logarithm


def static_tables(config: FeatureConfig, warp: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The window (frame_length,), the mel filters (fft_size // 2, num_mel_bins) and the transform; all float64.

    The transform is the cosine transform with lifter, (num_ceps, num_mel_bins), or None for the filter bank.

    Raises ConfigError if a filter has no FFT bin after warping by `warp`, or as `warp_hz`.
    """
    window = window_function(config.window, config.frame_length)
    band = config.low_hz, config.top_hz
    filters = mel_filters(config.num_mel_bins, config.fft_size, config.sample_rate, *band, warp)
    if empty := int((filters.max(axis=0) == 0.0).sum()):
        raise ConfigError(
            f"features.num_mel_bins: {config.num_mel_bins}; expected fewer: {empty} of the filters have no FFT bin "
            f"when warped by {warp:g} (training.augment.vtlp)"
        )
    if config.kind == "fbank":
        return window, filters, None
    lifter = lifter_coefficients(config.num_ceps, config.cepstral_lifter)[:, None]
    return window, filters, lifter * dct_matrix(config.num_ceps, config.num_mel_bins)


def log_energy_floor(config: FeatureConfig) -> float:
    """The natural logarithm of the energy floor; -inf without a floor."""
    return float(np.log(config.energy_floor)) if config.energy_floor > 0.0 else -np.inf


class NumpyBackend(FeatureBackend):
    """Kaldi's compute-mfcc-feats and compute-fbank-feats in NumPy. Raises ConfigError as `static_tables`."""

    name: ClassVar[BackendName] = "numpy"
    takes_streams = True
    warps = True

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        self.config = config
        self._shift, self._fft_size = config.frame_shift, config.fft_size
        window, filters, dct = static_tables(config, warp)
        self._window = window.astype(np.float32)
        # A row of zeros is for half the sampling rate. The factor undoes the FFT's scale; it is a power of two, so
        # exact.
        self._filters = np.pad(filters * config.fft_size**2, ((0, 1), (0, 0))).astype(np.float32)
        self._log_energy_floor = np.float32(log_energy_floor(config))
        self._dct = None if dct is None else dct.T.astype(np.float32)

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int = 0) -> np.ndarray | None:
        # `row` puts a frame into the same row of a block in every call, so that matrix products give the same bits.
        length, shift = len(self._window), self._shift
        samples = mirrored(samples, first, first + (num_frames - 1) * shift + length)
        feats = np.empty((num_frames, self.config.num_static), np.float32)
        windowed = np.zeros((_BLOCK, self._fft_size), np.float32)
        spectrum: np.ndarray = np.empty((_BLOCK, self._fft_size // 2 + 1), np.complex64)
        power = np.zeros(spectrum.shape, np.float32)
        log_mel = np.zeros((_BLOCK, self._filters.shape[1]), np.float32)
        done = 0
        with np.errstate(over="ignore", invalid="ignore"):  # the caller reports values that are not finite
            while done < num_frames:
                begin = (row + done) % _BLOCK
                end = min(_BLOCK, begin + num_frames - done)
                out, rows = feats[done : done + end - begin], slice(begin, end)
                piece = samples[done * shift : (done + end - begin - 1) * shift + length]
                energy = self._fill_windows(piece, windowed[rows, :length])
                # With norm "forward" NumPy computes in single precision; otherwise it would use double precision.
                np.fft.rfft(windowed[rows], norm="forward", out=spectrum[rows])
                parts = spectrum[rows].view(np.float32)
                parts *= parts
                np.add(parts[:, 0::2], parts[:, 1::2], out=power[rows])
                log_mel[rows] = _log_floored((power @ self._filters)[rows])
                cepstra = log_mel if self._dct is None else log_mel @ self._dct
                out[:, out.shape[1] - cepstra.shape[1] :] = cepstra[rows]
                if energy is not None:
                    out[:, 0] = np.maximum(_log_floored(energy), self._log_energy_floor)
                done += end - begin
        return feats if np.isfinite(feats).all() else None

    def _fill_windows(self, samples: np.ndarray, windowed: np.ndarray) -> np.ndarray | None:
        """Write the windowed frames of `samples` (n,) into `windowed` (num_frames, frame_length), for the FFT.

        Returns the energies (num_frames,) of the frames if the settings need them.
        """
        config = self.config
        num_frames, length = windowed.shape
        raw = frame_view(samples, num_frames, length, self._shift)
        # Pre-emphasis is computed once for all overlapping frames. It reduces a frame's mean to `rest` times the mean.
        # The first sample of a frame has no predecessor in it and is corrected below. The difference plus `rest` times
        # the predecessor has a much smaller rounding error than to subtract 0.97 times the predecessor.
        rest = np.float32(1.0 - config.preemphasis)
        emphasized = np.empty_like(samples)
        emphasized[0] = 0.0
        np.subtract(samples[1:], samples[:-1], out=emphasized[1:])
        emphasized[1:] += rest * samples[:-1]
        frames = frame_view(emphasized, num_frames, length, self._shift)
        if config.remove_dc_offset:
            means = np.einsum("ij->i", raw)[:, None] / np.float32(length)
        else:
            means = np.zeros((num_frames, 1), np.float32)
        np.subtract(frames, rest * means, out=windowed)
        windowed[:, :1] = rest * (raw[:, :1] - means)
        windowed *= self._window
        if not config.use_energy:
            return None
        energy_of = raw - means if config.raw_energy else windowed
        return np.einsum("ij,ij->i", energy_of, energy_of)


def _log_floored(values: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(values, _EPSILON, out=values), out=values)
