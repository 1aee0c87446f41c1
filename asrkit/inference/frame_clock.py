"""The times of frames, and the frames for which the steps of the network stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.models.config import ModelConfig
from asrkit.types import PhoneTime


@dataclass(frozen=True, slots=True)
class AudioEnd:
    """The end of a recording: it has `num_frames` frames and lasts `seconds`."""

    num_frames: int
    seconds: float


@dataclass(frozen=True)
class FrameClock:
    """The times of frames and steps.

    Frame t begins at `start + t * shift`, and step k stands for frame `middle + k * skip`.

    Attributes:
        shift: seconds from one frame to the next.
        start: seconds at which frame 0 begins.
        skip: frames from one step to the next.
        middle: the frame for which step 0 stands.
    """

    shift: float
    start: float
    skip: int
    middle: float

    @property
    def step(self) -> float:
        """Seconds from one step of the network to the next."""
        return self.shift * self.skip

    def shortest(self, num_frames: int) -> AudioEnd:
        """The end of the shortest recording that has this many frames."""
        return AudioEnd(num_frames, num_frames * self.shift + 2 * self.start)

    def phone_times(
        self, phones: Sequence[str], starts: np.ndarray, ends: np.ndarray, audio_end: AudioEnd | None
    ) -> tuple[PhoneTime, ...]:
        """Convert spans in frames to seconds. The first and the last frame extend to the edges of the audio.

        Args:
            phones: U phones.
            starts, ends: (U,) first frame of each phone, and the frame after its last one.
            audio_end: the end of the recording; None while it continues. Then no frame is the last one.
        """
        bounds = np.maximum(self.start + self.shift * np.stack([starts, ends]), 0.0)
        bounds[0][starts == 0] = 0.0
        if audio_end is not None:
            bounds = np.minimum(bounds, audio_end.seconds)
            bounds[1][ends == audio_end.num_frames] = audio_end.seconds
        return tuple(PhoneTime(phone, *span) for phone, span in zip(phones, bounds.T.tolist(), strict=True))


def frame_clock(features: FeatureConfig, config: ModelConfig) -> FrameClock:
    """The clock of a model with these settings."""
    framing = features.framing
    return FrameClock(
        framing.shift_seconds,
        start=framing.first_stretch_start,
        skip=config.frames_a_step,
        middle=(config.frames_in_step - 1) / 2,
    )
