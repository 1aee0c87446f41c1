"""The interface of the backends, which compute static features."""

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
    """Computes static features with given settings. Shapes: T frames, D static features.

    Attributes:
        name: the name of the backend in the settings.
        definition: the toolkit that defines the features. Features of one definition differ only by rounding.
        framing_class: how this toolkit cuts a signal into frames.
        takes_streams: whether a frame does not depend on the frames computed together with it, to the last bit.
        warps: whether the frequencies of the mel filters can be warped (`mel.warp_hz`).
        varies_with_threads: whether the last digits depend on the number of threads of the process.
        batch_size: the number of utterances that are best computed together.
    """

    name: ClassVar[BackendName]
    definition: ClassVar[str] = "kaldi"
    framing_class: ClassVar[type[Framing]] = Framing
    takes_streams: ClassVar[bool] = False
    warps: ClassVar[bool] = False
    varies_with_threads: ClassVar[bool] = True
    batch_size: ClassVar[int] = 1

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        """Raises ConfigError if the backend cannot be loaded or lacks a setting."""

    @staticmethod
    def level_scale(config: FeatureConfig) -> LevelScale:
        """How to compute the level of a frame from its features. The default is for Kaldi's natural logarithms."""
        db = 10 / math.log(10)
        if config.kind == "fbank":
            return LevelScale(config.num_static, db)
        return LevelScale(1, db if config.use_energy else db / config.num_mel_bins**0.5)  # C0 is the sum over this root

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int = 0) -> np.ndarray | None:
        """The features (num_frames, D) float32 of the frames that start at the samples `first`, `first` + shift, ...

        `samples` (n,) float32 are on the int16 scale. Their mirror image continues them at both ends. `row` is the
        number of the first frame within the utterance. The result is None if not all features are finite.
        """
        ...

    def static_batch(self, utterances: Sequence[tuple[np.ndarray, int]], first: int) -> list[np.ndarray | None]:
        """Like `static`, for whole utterances: (num_frames, D) float32 or None for each.

        `utterances` has the samples (n,) and the number of frames of each utterance.
        """
        return [self.static(samples, first, num_frames) for samples, num_frames in utterances]


@runtime_checkable
class FullBackend(FeatureBackend, Protocol):
    """A backend that computes full features, too."""

    def full(self, samples: np.ndarray, first: int, num_frames: int, stats: np.ndarray | None) -> np.ndarray | None:
        """Static features of `samples` (n,) with CMVN and deltas: (num_frames, D * (delta_order + 1)) float32.

        The arguments and None mean the same as for `static`. The mode of CMVN is affine (see `cmvn.Normalization`).
        `stats` (2, D + 1) are its given statistics. If they are None, a mode that normalises uses those of these
        frames.
        """
        ...
