"""When the frames of a model are, and which of them the network's steps stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.models.config import ModelConfig
from asrkit.types import PhoneTime


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

    def phone_times(
        self,
        phones: Sequence[str],
        starts: np.ndarray,
        ends: np.ndarray,
        num_frames: int,
        duration: float | None = None,
    ) -> tuple[PhoneTime, ...]:
        """Spans in frames, (U,) each, as seconds; the first and the last frame's share goes to the edge of the audio.

        Without a `duration` the audio is as long as the frames need.
        """
        duration = num_frames * self.shift + 2 * self.start if duration is None else duration
        bounds = np.clip(self.start + self.shift * np.stack([starts, ends]), 0.0, duration)
        bounds[0][starts == 0] = 0.0
        bounds[1][ends == num_frames] = duration
        return tuple(PhoneTime(phone, *span) for phone, span in zip(phones, bounds.T.tolist(), strict=True))


def frame_clock(features: FeatureConfig, config: ModelConfig) -> FrameClock:
    """The clock of a model with these settings."""
    framing = features.framing
    return FrameClock(
        framing.shift_seconds,
        start=framing.first_stretch_start,
        skip=config.skip,
        middle=(config.stack - 1) / 2,
    )
