"""Static features as librosa defines them, for users who need the same as librosa, not Kaldi (docs/features.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from asrkit.errors import ConfigError, raise_if_any
from asrkit.extras import named_when_missing
from asrkit.features.backends.interface import BackendName, FeatureBackend
from asrkit.features.framing import LibrosaFraming
from asrkit.features.speech_frames import LevelScale
from asrkit.features.window import window_function

if TYPE_CHECKING:
    from asrkit.features.config import FeatureConfig

# The names of librosa's own windows, which are periodic. It gets the others as numbers.
_WINDOWS = {"hanning": "hann", "hamming": "hamming", "blackman": "blackman", "rectangular": "boxcar"}


class LibrosaBackend(FeatureBackend):
    """MFCC by `librosa.feature.mfcc`; filter banks by `librosa.feature.melspectrogram` and `librosa.power_to_db`.

    Samples are scaled to the range -1 to 1. Without `snip_edges` frames are centred (librosa's `center`).

    Raises:
        MissingPackageError: librosa is not installed.
        ConfigError: librosa has no counterpart of a setting.
    """

    name: ClassVar[BackendName] = "librosa"
    definition = "librosa"
    framing_class = LibrosaFraming

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        with named_when_missing():
            import librosa
        missing = [("use_energy", config.use_energy, False), ("energy_floor", config.energy_floor, 0.0)]
        raise_if_any(
            [
                f"features.{name}: {value}, which librosa lacks; expected {only}, or another backend"
                for name, value, only in missing
                if value != only
            ],
            ConfigError,
        )
        self.config = config
        self._librosa = librosa
        window = _WINDOWS.get(config.window)
        self._options: dict[str, Any] = {
            "sr": config.sample_rate,
            "n_fft": config.fft_size,
            "win_length": config.frame_length,
            "hop_length": config.frame_shift,
            "window": window_function(config.window, config.frame_length) if window is None else window,
            "center": not config.snip_edges,
            "n_mels": config.num_mel_bins,
            "fmin": config.low_hz,
            "fmax": config.top_hz,
        }

    @staticmethod
    def level_scale(config: FeatureConfig) -> LevelScale:
        if config.kind == "fbank":  # in decibels
            return LevelScale(config.num_static, 1.0)
        lifter = config.cepstral_lifter
        lifted = 1 + lifter / 2 * np.sin(np.pi / lifter) if lifter > 0.0 else 1.0  # librosa lifts C0, too
        return LevelScale(1, 1 / (config.num_mel_bins**0.5 * float(lifted)))

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int = 0) -> np.ndarray | None:
        config, librosa = self.config, self._librosa
        if not np.isfinite(samples).all():
            return None
        with np.errstate(over="ignore", invalid="ignore"):  # the caller reports values that are not finite
            signal = samples / np.float32(32768)
            if config.preemphasis > 0.0:
                signal = librosa.effects.preemphasis(signal, coef=config.preemphasis)
            if config.kind == "mfcc":
                lifter = config.cepstral_lifter
                feats = librosa.feature.mfcc(y=signal, n_mfcc=config.num_ceps, lifter=lifter, **self._options)
            else:
                feats = librosa.power_to_db(librosa.feature.melspectrogram(y=signal, **self._options))
        feats = np.ascontiguousarray(feats.T, np.float32)
        return feats if np.isfinite(feats).all() else None
