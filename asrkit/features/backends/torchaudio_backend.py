"""Static features by torchaudio.compliance.kaldi: many utterances at a time, and on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from asrkit.errors import ConfigError
from asrkit.extras import named_when_missing
from asrkit.features.backends.interface import BackendName, FeatureBackend
from asrkit.features.window import mirrored

if TYPE_CHECKING:
    import torch

    from asrkit.features.config import FeatureConfig


class TorchaudioBackend(FeatureBackend):
    """Kaldi's features by torchaudio, which has all windows except "sine".

    torchaudio takes one signal per call. So utterances are concatenated. Each begins at a multiple of the frame shift,
    and frames that overlap two utterances are dropped.

    Raises:
        MissingPackageError: torchaudio is not installed.
        ConfigError: torchaudio cannot be loaded, or lacks the window.
    """

    name: ClassVar[BackendName] = "torchaudio"
    batch_size = 64

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        try:
            with named_when_missing():
                import torch
                from torchaudio.compliance import kaldi
        except (ImportError, OSError) as error:  # OSError: it was built for another version of torch
            reason = str(error).split("\n")[0]
            raise ConfigError(
                f"features.backend: torchaudio cannot be loaded ({reason}); install builds of torch and torchaudio "
                "that belong together, or choose native or numpy"
            ) from None
        if config.window == "sine":
            raise ConfigError(
                "features.window: sine, which torchaudio lacks; choose another window, or the backend native"
            )
        self.config = config
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self._torch = torch
        self._compute = kaldi.mfcc if config.kind == "mfcc" else kaldi.fbank
        # torchaudio rounds lengths down to samples. Half a sample more keeps it from losing one.
        to_ms = 1000 / config.sample_rate
        self._options: dict[str, Any] = {
            "sample_frequency": float(config.sample_rate),
            "frame_length": (config.frame_length + 0.5) * to_ms,
            "frame_shift": (config.frame_shift + 0.5) * to_ms,
            "dither": 0.0,
            "preemphasis_coefficient": config.preemphasis,
            "remove_dc_offset": config.remove_dc_offset,
            "window_type": config.window,
            "use_energy": config.use_energy,
            "raw_energy": config.raw_energy,
            "energy_floor": config.energy_floor,
            "num_mel_bins": config.num_mel_bins,
            "low_freq": config.low_hz,
            "high_freq": config.high_hz,
        }
        if config.kind == "mfcc":
            self._options |= {"num_ceps": config.num_ceps, "cepstral_lifter": config.cepstral_lifter}

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int = 0) -> np.ndarray | None:
        return _finite(self._frames(self._piece(samples, first, num_frames)).cpu().numpy())

    def static_batch(self, utterances: Sequence[tuple[np.ndarray, int]], first: int) -> list[np.ndarray | None]:
        shift = self.config.frame_shift
        pieces, starts, end = [], [], 0
        for samples, num_frames in utterances:
            piece = self._piece(samples, first, num_frames)
            padding = -len(piece) % shift
            pieces += [piece, np.zeros(padding, np.float32)]
            starts.append(end // shift)
            end += len(piece) + padding
        rows = self._frames(np.concatenate(pieces)).cpu().numpy()
        return [
            _finite(rows[start : start + num_frames].copy())
            for start, (_, num_frames) in zip(starts, utterances, strict=True)
        ]

    def _piece(self, samples: np.ndarray, first: int, num_frames: int) -> np.ndarray:
        last = first + (num_frames - 1) * self.config.frame_shift + self.config.frame_length
        return mirrored(samples, first, last)

    def _frames(self, samples: np.ndarray) -> torch.Tensor:
        torch = self._torch
        with torch.inference_mode():
            signal = torch.tensor(samples, device=self.device)  # a copy, because the array may be read-only
            return self._compute(signal[None], **self._options)


def _finite(feats: np.ndarray) -> np.ndarray | None:
    return feats if np.isfinite(feats).all() else None
