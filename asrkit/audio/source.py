"""The interface of all readers of audio formats: an open file from which frames are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from asrkit.errors import AudioError

BLOCK_FRAMES = 2**16

# Hz. Nothing that speech or its movements are recorded with is slower (larynx signals: 1 kHz) or faster (the fastest
# sound cards: 768 kHz). Bytes that are believed to be a rate give any number.
MIN_RATE, MAX_RATE = 1_000, 1_000_000
# Samples made of one at most: bounds what a small file can grow to.
MAX_RATE_RATIO = 64

# What programs write for a size that they do not know yet is as much as fits (2 or 4 GiB, or 63 bits), less their
# header, and in sox whole blocks only: 0x7ffff000 or, in AIFF, 0x7f000000, rounded down.
_NO_SIZES = (0x7F000000, 2**31, 2**32)
_NO_SIZE_MARGIN = 0x11000


@dataclass(frozen=True, slots=True)
class Source:
    """An open audio file.

    Attributes:
        num_frames, sample_rate (Hz), num_channels: what its header says.
        read: gives frames `start` to `stop` as (frames, channels) float32 on the int16 scale.
        decode: gives all frames in blocks, for formats whose `read` cannot be called often; None for all others.
    """

    num_frames: int
    sample_rate: int
    num_channels: int
    read: Callable[[int, int], np.ndarray]
    decode: Callable[[], Iterable[np.ndarray]] | None = None

    def blocks(self) -> Iterable[np.ndarray]:
        """All frames in order, in blocks (frames, channels)."""
        if self.decode is not None:
            return self.decode()
        starts = range(0, self.num_frames, BLOCK_FRAMES)
        return (self.read(start, min(start + BLOCK_FRAMES, self.num_frames)) for start in starts)


def check_rate(sample_rate: float, name: str, wanted: int | None = None) -> None:
    """Raise AudioError for a sampling rate (Hz) that no recording has, or that can't be brought to the one `wanted`."""
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"{name}: a sampling rate of {sample_rate} Hz; expected {MIN_RATE} to {MAX_RATE} Hz, as "
            "recordings have; give it its true rate"
        )
    if wanted is not None and wanted > MAX_RATE_RATIO * sample_rate:
        raise AudioError(
            f"{name}: a sampling rate of {sample_rate} Hz, which is not brought to {wanted} Hz; expected at least "
            f"{-(-wanted // MAX_RATE_RATIO)} Hz"
        )


def no_samples(name: str) -> AudioError:
    return AudioError(f"{name}: no samples in it; expected audio")


def too_short(name: str, promised: int, held: int) -> AudioError:
    return AudioError(f"{name}: the header promises {promised} samples, the file holds {held}; get the whole file")


def is_open_size(size: int) -> bool:
    """Whether a size in a header, in bytes, is a place-holder for an unknown size."""
    return size >= 2**62 or any(limit - _NO_SIZE_MARGIN <= size <= limit for limit in _NO_SIZES)
