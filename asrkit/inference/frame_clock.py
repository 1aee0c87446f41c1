"""When the frames of a model are, and which of them the network's steps stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.models.config import ModelConfig
from asrkit.types import PhoneTime


@dataclass(frozen=True, slots=True)
class AudioEnd:
    """The end of a recording: after `num_frames` frames, `seconds` from its beginning."""

    num_frames: int
    seconds: float


@dataclass(frozen=True)
class FrameClock:
    """Frame t stands for the `shift` seconds from `start + t * shift` on; step k for frame `middle + k * skip`."""

    shift: float
    start: float
    skip: int
    middle: float

    @property
    def step(self) -> float:
        """Seconds from one step of the network to the next."""
        return self.shift * self.skip

    def shortest(self, num_frames: int) -> AudioEnd:
        """The end of the shortest recording with this many frames."""
        return AudioEnd(num_frames, num_frames * self.shift + 2 * self.start)

    def phone_times(
        self, phones: Sequence[str], starts: np.ndarray, ends: np.ndarray, audio_end: AudioEnd | None
    ) -> tuple[PhoneTime, ...]:
        """Spans in frames, (U,) each, as seconds; the first and the last frame's share goes to the edge of the audio.

        `audio_end` is None while the recording is going on: no frame is its last then.
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
