"""Cuts a signal into frames, and computes window functions, as Kaldi's feature-window.cc."""

from __future__ import annotations

from typing import Literal

import numpy as np

Window = Literal["povey", "hamming", "hanning", "rectangular", "blackman", "sine"]


def window_function(name: Window, length: int) -> np.ndarray:
    """The window with this name: (length,) float64, symmetric. Raises ValueError if the name is unknown."""
    phase = 2.0 * np.pi * np.arange(length) / (length - 1)
    hanning = 0.5 - 0.5 * np.cos(phase)
    match name:
        case "povey":
            return hanning**0.85
        case "hanning":
            return hanning
        case "hamming":
            return 0.54 - 0.46 * np.cos(phase)
        case "blackman":
            return 0.42 - 0.5 * np.cos(phase) + 0.08 * np.cos(2.0 * phase)
        case "sine":
            return np.sin(0.5 * phase)
        case "rectangular":
            return np.ones(length)
    raise ValueError(f"unknown window {name!r}")


def mirrored(samples: np.ndarray, begin: int, end: int) -> np.ndarray:
    """The samples from `begin` to `end` of a signal that its mirror image continues at both ends: (end - begin,).

    `samples` (num_samples,) is the signal. The result is a view of it if `begin` and `end` lie inside.
    """
    num_samples = len(samples)
    if begin >= 0 and end <= num_samples:
        return samples[begin:end]

    def outside(first: int, last: int) -> np.ndarray:
        index = np.arange(first, last) % (2 * num_samples)
        return samples[np.minimum(index, 2 * num_samples - 1 - index)]

    inside = samples[max(begin, 0) : max(end, 0)]
    return np.concatenate([outside(begin, min(end, 0)), inside, outside(max(begin, num_samples), end)])


def frame_view(samples: np.ndarray, num_frames: int, frame_length: int, frame_shift: int) -> np.ndarray:
    """A view (num_frames, frame_length) of the overlapping frames of `samples` (num_samples,), which are contiguous.

    Do not write to it. Raises ValueError if the last frame would end after the signal.
    """
    step = samples.itemsize
    return np.ndarray((num_frames, frame_length), samples.dtype, samples, strides=(frame_shift * step, step))
