"""MFCC and log mel filter bank features: Kaldi's compute-mfcc-feats and compute-fbank-feats, by one of several
backends (docs/features.md). T frames."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from asrkit._native import kernel
from asrkit.errors import AudioError, ConfigError
from asrkit.features.cmvn import check_stats
from asrkit.features.config import FeatureConfig
from asrkit.features.native import NativeBackend
from asrkit.features.pipeline import full_features
from asrkit.features.reference import NumpyBackend
from asrkit.features.window import count_frames, first_start
from asrkit.types import Waveform


class FeatureExtractor:
    """Turns audio into static features. Holds tables and no state: one instance serves any number of utterances.

    `backend` names what computes them: "native", "numpy", "torchaudio" or "librosa". It can be sent to other
    processes. `warp` divides the frequencies of the mel filters (mel.warp_hz): formants then seem to lie that
    many times higher. Raises ConfigError when that backend cannot be loaded, or lacks a setting.
    """

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        self.config = config
        self.warp = warp
        self.num_static = config.num_static
        self.backend = resolve_backend(config.backend)
        self.first_start = first_start(config.frame_length, config.frame_shift, config.snip_edges)
        if self.backend == "native":
            self._backend = NativeBackend(config, kernel("_mfcc"), warp)
        elif self.backend == "numpy":
            self._backend = NumpyBackend(config, warp)
        elif warp != 1.0:
            raise ConfigError(
                f"features.backend: {self.backend} does not warp frequencies (training.augment.vtlp); choose native or "
                "numpy"
            )
        elif self.backend == "torchaudio":
            from asrkit.features.torchaudio_backend import TorchaudioBackend

            self._backend = TorchaudioBackend(config)
        else:
            from asrkit.features.librosa_backend import LibrosaBackend

            self._backend = LibrosaBackend(config)

    def __reduce__(self) -> tuple[object, ...]:
        return FeatureExtractor, (self.config, self.warp)

    @property
    def batch_size(self) -> int:
        """How many utterances `batch` does best at once."""
        return getattr(self._backend, "batch_size", 1)

    def num_frames(self, num_samples: int) -> int:
        """Number of frames that `num_samples` samples give."""
        config = self.config
        if self.backend == "librosa":
            return self._backend.num_frames(num_samples)
        return count_frames(num_samples, config.frame_length, config.frame_shift, config.snip_edges)

    def __call__(self, waveform: Waveform, utt_id: str = "") -> np.ndarray:
        """Static features (T, num_static) float32 of one utterance.

        Dither is drawn from a generator seeded with `utt_id`, and added to the signal rather than to each frame. Raises
        AudioError, naming `utt_id`, for audio of another sampling rate, too short for one frame, or with samples that
        are NaN, infinite or so large that features are.
        """
        samples, num_frames = self._prepare(waveform, utt_id)
        feats = self._backend.static(samples, self.first_start, num_frames)
        if feats is None:
            raise not_finite(samples, utt_id)
        return feats

    def full(self, waveform: Waveform, utt_id: str = "", stats: np.ndarray | None = None) -> np.ndarray:
        """What a model takes, (T, dim) float32: `full_features(self(waveform, utt_id), stats, config)`, but sooner."""
        mode = self.config.normalization
        if not isinstance(self._backend, NativeBackend) or mode.history:
            return full_features(self(waveform, utt_id), stats, self.config)
        stats = mode.needed_stats(stats)
        if stats is not None:
            stats = check_stats(stats, self.num_static)
        samples, num_frames = self._prepare(waveform, utt_id)
        feats = self._backend.full(samples, self.first_start, num_frames, stats)
        if feats is None:
            raise not_finite(samples, utt_id)
        return feats

    def batch(self, waveforms: Sequence[Waveform], utt_ids: Sequence[str]) -> list[np.ndarray]:
        """Static features of several utterances, together where the backend gains by that. Raises as one by one."""
        if self.batch_size == 1:
            return [self(waveform, utt_id) for waveform, utt_id in zip(waveforms, utt_ids, strict=True)]
        prepared = [self._prepare(waveform, utt_id) for waveform, utt_id in zip(waveforms, utt_ids, strict=True)]
        all_feats = self._backend.static_batch(prepared)
        for (samples, _), feats, utt_id in zip(prepared, all_feats, utt_ids, strict=True):
            if not np.isfinite(feats).all():
                raise not_finite(samples, utt_id)
        return all_feats

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int) -> np.ndarray | None:
        """Some frames of a longer signal, for streams; see NumpyBackend.static."""
        return self._backend.static(samples, first, num_frames, row)

    def noise(self, utt_id: str) -> np.random.Generator | None:
        """The generator of an utterance's dither; None without dither."""
        if self.config.dither == 0.0:
            return None
        return np.random.default_rng(int.from_bytes(hashlib.sha256(utt_id.encode()).digest()[:8]))

    def _prepare(self, waveform: Waveform, utt_id: str) -> tuple[np.ndarray, int]:
        """Contiguous samples with dither, and the number of frames; raises AudioError for what cannot be used."""
        config = self.config
        samples = np.require(waveform.samples, np.float32, "CA")
        if waveform.sample_rate != config.sample_rate:
            raise AudioError(
                f"{utt_id}: audio at {waveform.sample_rate} Hz; expected {config.sample_rate} Hz (features.sample_rate)"
            )
        if samples.ndim != 1:
            raise AudioError(f"{utt_id}: samples of shape {samples.shape}; expected one channel (num_samples,)")
        num_frames = self.num_frames(len(samples))
        if num_frames == 0:
            raise too_short(config, len(samples), utt_id)
        return add_dither(samples, self.noise(utt_id), config), num_frames


def resolve_backend(name: str) -> str:
    """What "auto" stands for here, and any other name as it is. Raises ConfigError for a kernel that is not there."""
    if name == "auto":
        return "numpy" if kernel("_mfcc") is None else "native"
    if name == "native" and kernel("_mfcc") is None:
        raise ConfigError(
            "features.backend: native, but the compiled kernel is not there; provide a C compiler and Python's headers "
            "and install asrkit again with pip (and leave ASRKIT_NO_NATIVE unset), or choose numpy"
        )
    return name


def add_dither(samples: np.ndarray, noise: np.random.Generator | None, config: FeatureConfig) -> np.ndarray:
    """`samples` with the next values of `noise` added, in new memory; themselves without noise."""
    if noise is None:
        return samples
    return samples + np.float32(config.dither) * noise.standard_normal(len(samples), np.float32)


def too_short(config: FeatureConfig, num_samples: int, utt_id: str) -> AudioError:
    needed = config.fft_size if config.backend == "librosa" else config.frame_length
    to_ms = 1000 / config.sample_rate
    return AudioError(
        f"{utt_id}: {num_samples} samples ({num_samples * to_ms:.1f} ms); expected one frame or more, "
        f"{needed} samples ({needed * to_ms:g} ms); remove it or check its segment"
    )


def not_finite(samples: np.ndarray, utt_id: str) -> AudioError:
    bad = np.count_nonzero(~np.isfinite(samples))
    found = f"{bad} samples are NaN or infinite" if bad else f"samples as large as {np.abs(samples).max():g}"
    return AudioError(f"{utt_id}: {found}; expected the int16 scale, -32768 to 32767; repair the audio")
