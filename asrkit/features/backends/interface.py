"""The interface of all backends, which compute static features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from asrkit.features.framing import Framing
from asrkit.features.speech_frames import LevelScale

if TYPE_CHECKING:
    from asrkit.features.config import FeatureConfig

BackendName = Literal["native", "numpy", "torchaudio", "librosa"]


class FeatureBackend(Protocol):
    """Computes static features by one set of settings. T frames, D static features.

    Attributes:
        name: the backend's name in settings.
        definition: whose features these are. Those of one definition differ by rounding alone.
        framing_class: how that definition cuts a signal into frames.
        takes_streams: whether a frame's bits do not depend on the frames computed together with it.
        warps: whether the frequencies of the mel filters can be warped (mel.warp_hz).
        varies_with_threads: whether the last digits depend on the number of threads of the process.
        batch_size: how many utterances are best computed at once.
    """

    name: ClassVar[BackendName]
    definition: ClassVar[str] = "kaldi"
    framing_class: ClassVar[type[Framing]] = Framing
    takes_streams: ClassVar[bool] = False
    warps: ClassVar[bool] = False
    varies_with_threads: ClassVar[bool] = True
    batch_size: ClassVar[int] = 1

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        """Raises ConfigError when the backend cannot be loaded, or lacks a setting."""

    @staticmethod
    def level_scale(config: FeatureConfig) -> LevelScale:
        """How to compute a frame's level from its features. By default as for Kaldi's, in natural logarithms."""
        db = 10 / math.log(10)
        if config.kind == "fbank":
            return LevelScale(config.num_static, db)
        return LevelScale(1, db if config.use_energy else db / config.num_mel_bins**0.5)  # C0 is their sum, so divided

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int = 0) -> np.ndarray | None:
        """Features (num_frames, D) float32 of the frames that start at samples `first`, `first` + shift, ...

        `samples` (n,) float32, on the int16 scale, go on as their mirror image at both ends. `row` is the first frame's
        number in the whole utterance. Returns None when not all features are finite.
        """
        ...

    def static_batch(self, utterances: Sequence[tuple[np.ndarray, int]], first: int) -> list[np.ndarray | None]:
        """As `static`, of whole utterances, each given by its samples and its number of frames."""
        return [self.static(samples, first, num_frames) for samples, num_frames in utterances]


@runtime_checkable
class FullBackend(FeatureBackend, Protocol):
    """A backend that also computes full features by itself."""

    def full(self, samples: np.ndarray, first: int, num_frames: int, stats: np.ndarray | None) -> np.ndarray | None:
        """Static features, CMVN and deltas (num_frames, D * (delta_order + 1)) float32; None as for `static`.

        CMVN is of an affine mode (cmvn.Normalization). `stats` (2, D + 1) are the statistics that it is given;
        with None, a mode that normalizes takes those of these frames.
        """
        ...
