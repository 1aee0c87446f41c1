"""MFCC and log mel filter bank features: Kaldi's compute-mfcc-feats and compute-fbank-feats, by one of several
backends (docs/features.md). T frames."""

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
from asrkit.features.pipeline import full_features
from asrkit.types import Waveform


class FeatureExtractor:
    """Turns audio into static features. Holds tables and no state: one instance serves any number of utterances.

    `backend` is the name of what computes them, never "auto"; `framing` tells where the frames are; `takes_streams`
    and `batch_size` are the backend's. The object can be sent to other processes.
    `warp` divides the frequencies of the mel filters (mel.warp_hz): formants then seem to lie that many times higher.
    Raises ConfigError when that backend cannot be loaded, or lacks a setting.
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
        """Dimension of the static features."""
        return self.config.num_static

    def num_frames(self, num_samples: int) -> int:
        """Number of frames that `num_samples` samples give."""
        return self.framing.num_frames(num_samples)

    def __call__(self, waveform: Waveform, utt_id: str = "") -> np.ndarray:
        """Static features (T, num_static) float32 of one utterance.

        Dither is drawn from a generator seeded with `utt_id`, and added to the signal rather than to each frame. Raises
        AudioError, naming `utt_id`, for audio of another sampling rate, too short for one frame, or with samples that
        are NaN, infinite or so large that features are.
        """
        samples, num_frames = self._prepare(waveform, utt_id)
        feats = self._backend.static(samples, self.framing.first_start, num_frames)
        if feats is None:
            raise not_finite(samples, utt_id)
        return feats

    def full(self, waveform: Waveform, utt_id: str = "", stats: np.ndarray | None = None) -> np.ndarray:
        """What a model takes, (T, dim) float32: `full_features(self(waveform, utt_id), stats, config)`, but sooner.

        `stats`: CMVN statistics (2, num_static + 1), as Kaldi's compute-cmvn-stats writes them.
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
        """Static features (T, num_static) of each utterance, together where that is quicker. Raises as for one."""
        prepared = [self._prepare(waveform, utt_id) for waveform, utt_id in zip(waveforms, utt_ids, strict=True)]
        all_feats = self._backend.static_batch(prepared, self.framing.first_start)
        results = []
        for (samples, _), feats, utt_id in zip(prepared, all_feats, utt_ids, strict=True):
            if feats is None:
                raise not_finite(samples, utt_id)
            results.append(feats)
        return results

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int) -> np.ndarray | None:
        """Frames (num_frames, num_static) of a stream's `samples` (num_samples,); see FeatureBackend.static."""
        return self._backend.static(samples, first, num_frames, row)

    def noise(self, utt_id: str) -> np.random.Generator | None:
        """The generator of an utterance's dither; None without dither."""
        if self.config.dither == 0.0:
            return None
        return np.random.default_rng(int.from_bytes(hashlib.sha256(utt_id.encode()).digest()[:8]))

    def _prepare(self, waveform: Waveform, utt_id: str) -> tuple[np.ndarray, int]:
        """Contiguous samples with dither, and the number of frames; raises AudioError for what cannot be used."""
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
    """`samples` with the next values of `noise` added, in new memory; themselves without noise."""
    if noise is None:
        return samples
    return samples + np.float32(config.dither) * noise.standard_normal(len(samples), np.float32)


def too_short(framing: Framing, num_samples: int, utt_id: str) -> AudioError:
    needed, to_ms = framing.samples_needed, 1000 / framing.sample_rate
    return AudioError(
        f"{utt_id}: {num_samples} samples ({num_samples * to_ms:.1f} ms); expected one frame or more, "
        f"{needed} samples ({needed * to_ms:g} ms); remove it or check its segment"
    )


def not_finite(samples: np.ndarray, utt_id: str) -> AudioError:
    bad = np.count_nonzero(~np.isfinite(samples))
    found = f"{bad} samples are NaN or infinite" if bad else f"samples as large as {np.abs(samples).max():g}"
    return AudioError(f"{utt_id}: {found}; expected the int16 scale, -32768 to 32767; repair the audio")
