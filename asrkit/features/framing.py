"""The frames of a signal: their number, samples and times. Only this module computes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Framing:
    """Cuts a signal into frames as Kaldi does. Lengths are in samples. Times are in seconds from the signal's start."""

    length: int
    shift: int
    fft_size: int
    snip_edges: bool
    sample_rate: int

    @property
    def first_start(self) -> int:
        """The sample at which frame 0 starts.

        With `snip_edges` it is 0. Otherwise each frame has its centre in the middle of a shift. Frame 0 may then start
        before the signal, which is extended by its mirror image.
        """
        return 0 if self.snip_edges else self.shift // 2 - self.length // 2

    @property
    def samples_needed(self) -> int:
        """The number of samples that one frame needs."""
        return self.length

    def num_frames(self, num_samples: int) -> int:
        """The number of frames in a signal of `num_samples` samples.

        With `snip_edges` every frame lies inside the signal. Otherwise there is one frame per shift. The number is then
        rounded to the nearest and does not depend on the frame length.
        """
        if not self.snip_edges:
            return (num_samples + self.shift // 2) // self.shift
        return 0 if num_samples < self.length else 1 + (num_samples - self.length) // self.shift

    def centers(self, num_frames: int) -> np.ndarray:
        """The times of the centres of frames, in seconds: (num_frames,) float64."""
        return (self._first_center + np.arange(num_frames) * self.shift) / self.sample_rate

    @property
    def shift_seconds(self) -> float:
        """The frame shift in seconds. It is also the length of the stretch of time that a frame represents."""
        return self.shift / self.sample_rate

    @property
    def first_stretch_start(self) -> float:
        """The start (in seconds) of the stretch of time that frame 0 represents.

        The stretch is one shift long, and its centre is the centre of the frame. The stretches of the next frames
        follow without gaps. The start is negative if the centre of frame 0 is the beginning of the signal.
        """
        return (self._first_center - self.shift / 2) / self.sample_rate

    @property
    def _first_center(self) -> float:
        return self.first_start + self.length / 2


@dataclass(frozen=True)
class LibrosaFraming(Framing):
    """Cuts a signal into frames as librosa does.

    A frame has the size of the FFT, and the window is in its middle. Without `snip_edges` the centres of the frames are
    the samples 0, shift, 2 * shift ...
    """

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
