"""The frames of a signal: their number, samples and times. No other module computes these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Framing:
    """Frames as Kaldi cuts them. Lengths are in samples, times in seconds from the beginning of the signal."""

    length: int
    shift: int
    fft_size: int
    snip_edges: bool
    sample_rate: int

    @property
    def first_start(self) -> int:
        """The sample at which frame 0 starts.

        Without snip_edges frames are centered on the middle of each shift: frame 0 may start before the signal, which
        goes on as its mirror image.
        """
        return 0 if self.snip_edges else self.shift // 2 - self.length // 2

    @property
    def samples_needed(self) -> int:
        """The samples that one frame takes."""
        return self.length

    def num_frames(self, num_samples: int) -> int:
        """Number of frames that `num_samples` samples give.

        With snip_edges every frame lies inside the signal. Without it there is one frame per shift, rounded to nearest,
        and the number does not depend on the frame length.
        """
        if not self.snip_edges:
            return (num_samples + self.shift // 2) // self.shift
        return 0 if num_samples < self.length else 1 + (num_samples - self.length) // self.shift

    def centers(self, num_frames: int) -> np.ndarray:
        """Times (num_frames,) float64 of the middles of frames."""
        return (self._first_center + np.arange(num_frames) * self.shift) / self.sample_rate

    @property
    def shift_seconds(self) -> float:
        """The time from one frame to the next, which is also how long a stretch of time a frame stands for."""
        return self.shift / self.sample_rate

    @property
    def first_stretch_start(self) -> float:
        """The time at which the stretch begins that frame 0 stands for, which is one shift long and around its middle.

        The others' follow without gaps. It is below 0 where the middle of frame 0 is the beginning of the signal.
        """
        return (self._first_center - self.shift / 2) / self.sample_rate

    @property
    def _first_center(self) -> float:
        return self.first_start + self.length / 2


@dataclass(frozen=True)
class LibrosaFraming(Framing):
    """Frames as librosa cuts them: as long as the FFT, the window in their middle; without snip_edges around samples
    0, shift, 2 * shift ..."""

    @property
    def samples_needed(self) -> int:
        return self.fft_size

    def num_frames(self, num_samples: int) -> int:
        if not self.snip_edges:
            return 0 if num_samples == 0 else 1 + num_samples // self.shift
        return 0 if num_samples < self.fft_size else 1 + (num_samples - self.fft_size) // self.shift

    @property
    def _first_center(self) -> float:
        return self.fft_size / 2 if self.snip_edges else 0.0
