"""The interface that all readers of audio formats share: an open file with frames to read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from asrkit.errors import AudioError

BLOCK_FRAMES = 2**16

# In Hz. No recorder of speech or of articulators is slower (larynx signals: 1 kHz) or faster (sound cards: 768 kHz). A
# damaged header may have any number in the place of the rate.
MIN_RATE, MAX_RATE = 1_000, 1_000_000
# Resampling makes at most this many samples of one, so that a small file cannot fill the memory.
MAX_RATE_RATIO = 64

# A program that does not know the size yet writes the largest that fits (2 GiB, 4 GiB or 63 bits), less its header. sox
# writes whole blocks only: 0x7ffff000, or in AIFF 0x7f000000, rounded down.
_NO_SIZES = (0x7F000000, 2**31, 2**32)
_NO_SIZE_MARGIN = 0x11000


@dataclass(frozen=True, slots=True)
class Source:
    """An open audio file.

    Attributes:
        num_frames: number of frames (samples per channel), from the header.
        sample_rate: in Hz, from the header.
        num_channels: number of channels, from the header.
        read: a function that decodes the frames `start` to `stop` to (frames, channels) float32 on the int16 scale.
        decode: a function that decodes all frames in blocks, for formats in which repeated calls of `read` are slow.
            None for all other formats.
    """

    num_frames: int
    sample_rate: int
    num_channels: int
    read: Callable[[int, int], np.ndarray]
    decode: Callable[[], Iterable[np.ndarray]] | None = None

    def blocks(self) -> Iterable[np.ndarray]:
        """Decode all frames in blocks, each (frames, channels) float32 on the int16 scale."""
        if self.decode is not None:
            return self.decode()
        starts = range(0, self.num_frames, BLOCK_FRAMES)
        return (self.read(start, min(start + BLOCK_FRAMES, self.num_frames)) for start in starts)


def check_rate(sample_rate: float, name: str, wanted: int | None = None) -> None:
    """Raise AudioError if no recording has the rate `sample_rate`, or it is too low to resample to the rate `wanted`.

    Rates are in Hz. `name` is the name of the audio in the message.
    """
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"{name}: a sampling rate of {sample_rate} Hz; expected {MIN_RATE} to {MAX_RATE} Hz; correct the rate in "
            "its header"
        )
    if wanted is not None and wanted > MAX_RATE_RATIO * sample_rate:
        raise AudioError(
            f"{name}: a sampling rate of {sample_rate} Hz, which cannot be changed to {wanted} Hz; expected at least "
            f"{-(-wanted // MAX_RATE_RATIO)} Hz"
        )


def no_samples(name: str) -> AudioError:
    """The AudioError that the audio `name` has no samples."""
    return AudioError(f"{name}: no samples in it; expected audio")


def too_short(name: str, promised: int, held: int) -> AudioError:
    """The AudioError that the file `name` holds only `held` of the `promised` samples."""
    return AudioError(f"{name}: the header promises {promised} samples, the file holds {held}; get the whole file")


def is_open_size(size: int) -> bool:
    """Whether `size` (bytes), from a header, is a place-holder for an unknown size."""
    return size >= 2**62 or any(limit - _NO_SIZE_MARGIN <= size <= limit for limit in _NO_SIZES)
