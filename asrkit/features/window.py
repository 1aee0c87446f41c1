"""Cutting a signal into frames and the window functions, as Kaldi's feature-window.cc defines them."""

from __future__ import annotations

from typing import Literal

import numpy as np

Window = Literal["povey", "hamming", "hanning", "rectangular", "blackman", "sine"]


def window_function(name: Window, length: int) -> np.ndarray:
    """The (length,) float64 window called `name`; symmetric, so both ends are equal."""
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
    """Samples `begin` to `end` of a signal that is continued by its mirror image at both ends; a view if inside."""
    num_samples = len(samples)
    if begin >= 0 and end <= num_samples:
        return samples[begin:end]

    def outside(first: int, last: int) -> np.ndarray:
        index = np.arange(first, last) % (2 * num_samples)
        return samples[np.minimum(index, 2 * num_samples - 1 - index)]

    inside = samples[max(begin, 0) : max(end, 0)]
    return np.concatenate([outside(begin, min(end, 0)), inside, outside(max(begin, num_samples), end)])


def frame_view(samples: np.ndarray, num_frames: int, frame_length: int, frame_shift: int) -> np.ndarray:
    """(num_frames, frame_length) view of the overlapping frames of contiguous `samples`: not to be written to.

    Raises ValueError when the last frame would go past the end.
    """
    step = samples.itemsize
    return np.ndarray((num_frames, frame_length), samples.dtype, samples, strides=(frame_shift * step, step))
