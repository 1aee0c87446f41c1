"""MFCC and log mel filter bank features, as Kaldi's compute-mfcc-feats and compute-fbank-feats.

One of several backends computes them (docs/features.md). Shapes: T frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from asrkit.errors import AudioError, ConfigError
from asrkit.features.backends import backend_class, names_of_backends
from asrkit.features.backends.interface import FullBackend
from asrkit.features.cmvn import check_stats
from asrkit.features.config import FeatureConfig
from asrkit.features.framing import Framing
from asrkit.features.full import full_features
from asrkit.types import Waveform


class FeatureExtractor:
    """Computes static features of audio. It has tables but no state, so one object can process any utterances.

    `backend` is the name of the backend, never "auto". `framing` gives the places of the frames. `takes_streams` and
    `batch_size` are those of the backend. The object can be sent to other processes.

    The frequencies of the mel filters are divided by `warp` (`mel.warp_hz`). The effect is that of formants that are
    higher by this factor.

    Raises ConfigError if the backend cannot be loaded or lacks a setting.
    """

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        backend = backend_class(config.backend)
        if warp != 1.0 and not backend.warps:
            expected = names_of_backends(lambda backend: backend.warps)
            raise ConfigError(
                f"features.backend: {backend.name} does not warp frequencies (training.augment.vtlp); choose {expected}"
            )
        self.config, self.warp = config, warp
        self.backend = backend.name
        self.takes_streams, self.batch_size = backend.takes_streams, backend.batch_size
        self.framing = config.framing
        self._backend = backend(config, warp)
        self._full_backend = self._backend if isinstance(self._backend, FullBackend) else None

    def __reduce__(self) -> tuple[object, ...]:
        return FeatureExtractor, (self.config, self.warp)

    @property
    def num_static(self) -> int:
        """The dimension of the static features."""
        return self.config.num_static

    def num_frames(self, num_samples: int) -> int:
        """The number of frames in a signal of `num_samples` samples."""
        return self.framing.num_frames(num_samples)

    def __call__(self, waveform: Waveform, utt_id: str = "") -> np.ndarray:
        """The static features (T, num_static) float32 of an utterance.

        Dither comes from a random generator whose seed is `utt_id`. It is added to the signal, not to each frame.

        Raises AudioError, which names `utt_id`, if the sampling rate differs from the settings or the audio is too
        short for one frame. Also if samples are NaN, infinite, or so large that the features are not finite.
        """
        samples, num_frames = self._prepare(waveform, utt_id)
        feats = self._backend.static(samples, self.framing.first_start, num_frames)
        if feats is None:
            raise not_finite(samples, utt_id)
        return feats

    def full(self, waveform: Waveform, utt_id: str = "", stats: np.ndarray | None = None) -> np.ndarray:
        """The full features (T, dim) float32 of an utterance, which are the input of a model.

        They are those of `full_features(self(waveform, utt_id), stats, config)`, but computed faster. `stats` are CMVN
        statistics (2, num_static + 1), as Kaldi's compute-cmvn-stats writes them.

        Raises:
            AudioError: as for static features.
            ConfigError: the mode of CMVN needs `stats`, and they are None.
            DataError: `stats` do not fit.
        """
        mode = self.config.normalization
        if self._full_backend is None or not mode.is_affine:
            return full_features(self(waveform, utt_id), stats, self.config)
        stats = mode.needed_stats(stats)
        if stats is not None:
            stats = check_stats(stats, self.num_static)
        samples, num_frames = self._prepare(waveform, utt_id)
        feats = self._full_backend.full(samples, self.framing.first_start, num_frames, stats)
        if feats is None:
            raise not_finite(samples, utt_id)
        return feats

    def batch(self, waveforms: Sequence[Waveform], utt_ids: Sequence[str]) -> list[np.ndarray]:
        """The static features (T, num_static) of each utterance, computed together if that is faster.

        Raises AudioError as for one utterance.
        """
        prepared = [self._prepare(waveform, utt_id) for waveform, utt_id in zip(waveforms, utt_ids, strict=True)]
        all_feats = self._backend.static_batch(prepared, self.framing.first_start)
        results = []
        for (samples, _), feats, utt_id in zip(prepared, all_feats, utt_ids, strict=True):
            if feats is None:
                raise not_finite(samples, utt_id)
            results.append(feats)
        return results

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int) -> np.ndarray | None:
        """The static features (num_frames, num_static) of `samples` (num_samples,); see `FeatureBackend.static`."""
        return self._backend.static(samples, first, num_frames, row)

    def noise(self, utt_id: str) -> np.random.Generator | None:
        """The random generator for the dither of an utterance; None without dither."""
        if self.config.dither == 0.0:
            return None
        return np.random.default_rng(int.from_bytes(hashlib.sha256(utt_id.encode()).digest()[:8]))

    def _prepare(self, waveform: Waveform, utt_id: str) -> tuple[np.ndarray, int]:
        """Contiguous samples with dither, and the number of frames. Raises AudioError for unusable audio."""
        config = self.config
        samples = np.require(waveform.samples, np.float32, ("C", "A"))
        if waveform.sample_rate != config.sample_rate:
            raise AudioError(
                f"{utt_id}: audio at {waveform.sample_rate} Hz; expected {config.sample_rate} Hz (features.sample_rate)"
            )
        if samples.ndim != 1:
            raise AudioError(f"{utt_id}: samples of shape {samples.shape}; expected one channel (num_samples,)")
        num_frames = self.num_frames(len(samples))
        if num_frames == 0:
            raise too_short(self.framing, len(samples), utt_id)
        return add_dither(samples, self.noise(utt_id), config), num_frames


def add_dither(samples: np.ndarray, noise: np.random.Generator | None, config: FeatureConfig) -> np.ndarray:
    """`samples` (num_samples,) plus the next values of `noise`, as a new array; `samples` itself without noise."""
    if noise is None:
        return samples
    return samples + np.float32(config.dither) * noise.standard_normal(len(samples), np.float32)


def too_short(framing: Framing, num_samples: int, utt_id: str) -> AudioError:
    """The AudioError that an utterance of `num_samples` samples is too short for one frame."""
    needed, to_ms = framing.samples_needed, 1000 / framing.sample_rate
    return AudioError(
        f"{utt_id}: {num_samples} samples ({num_samples * to_ms:.1f} ms); expected one frame or more, "
        f"{needed} samples ({needed * to_ms:g} ms); remove it or check its segment"
    )


def not_finite(samples: np.ndarray, utt_id: str) -> AudioError:
    """The AudioError that `samples` (num_samples,) of an utterance are not finite, or too large."""
    bad = np.count_nonzero(~np.isfinite(samples))
    found = f"{bad} samples are NaN or infinite" if bad else f"samples as large as {np.abs(samples).max():g}"
    return AudioError(f"{utt_id}: {found}; expected the int16 scale, -32768 to 32767; repair the audio")
