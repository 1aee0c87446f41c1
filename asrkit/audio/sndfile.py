"""Decodes the formats that libsndfile knows, through soundfile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import soundfile

from asrkit.audio.pieces import Pieces
from asrkit.audio.quiet import quiet_c_library
from asrkit.audio.source import BLOCK_FRAMES, Source, too_short
from asrkit.errors import AudioError

_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile gives it for a FLAC stream whose header has no length

# Formats whose header asrkit has checked against the file. IRCAM and PVF have no length; libsndfile itself checks HTK.
_CONTAINERS = frozenset(
    (*("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "FLAC", "OGG", "MP3"), *("IRCAM", "PVF", "HTK"))
)


class SoundFile(soundfile.SoundFile):
    """A `soundfile.SoundFile` that never seeks.

    soundfile seeks to the current position after each read. This disturbs MP3 decoding and fails on streamed FLAC.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        with quiet_c_library():
            super().__init__(*args, **options)

    def seekable(self) -> bool:
        """Always False, so that soundfile does not seek after a read."""
        return False

    def read_block(self, num_frames: int) -> np.ndarray:
        """Decode the next frames, at most `num_frames`: (frames, channels) float32 on the int16 scale."""
        with quiet_c_library():
            block = self.read(num_frames, dtype="float32", always_2d=True)
        with np.errstate(over="ignore", invalid="ignore"):  # values that are not finite are reported later
            block *= np.float32(32768)
        return block


def open_sndfile(stream: BinaryIO | Pieces, name: str) -> SoundFile:
    """Open a file. Raises AudioError if libsndfile does not know its format, or asrkit does not read it."""
    try:
        if isinstance(stream, Pieces):
            stream.seek(0)
            file = SoundFile(stream)
        else:
            # By descriptor: with a name soundfile would rely on its ending (.raw), and with a Python file its callbacks
            # would print tracebacks for damaged files.
            os.lseek(stream.fileno(), 0, os.SEEK_SET)
            file = SoundFile(stream.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        stream.seek(0)
        reason = error.error_string.strip().rstrip(".")
        found = f"not audio that can be read ({reason}; it begins {stream.read(16)!r})"
        raise AudioError(f"{name}: {found}; expected WAV, FLAC, Ogg, MP3 or SPHERE") from None
    if file.format not in _CONTAINERS:
        kind = file.format
        file.close()
        raise AudioError(f"{name}: {kind}, which is not read; convert it to WAV or FLAC")
    return file


def sndfile_source(file: SoundFile, name: str, whole: bool) -> Source:
    """An open file as a `Source`. `whole` is False if the caller will only call `blocks`, once.

    Raises AudioError if the file is truncated or damaged.
    """
    if file.frames == _UNKNOWN_FRAMES and whole:
        samples = np.concatenate(list(_blocks(file, name, _UNKNOWN_FRAMES)))
        return Source(len(samples), file.samplerate, file.channels, lambda start, stop: samples[start:stop])
    # Lossy decoders have a state: after a seek they give slightly other samples than when decoding from the beginning.
    exact_seek = file.subtype.startswith(("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW"))

    def read(start: int, stop: int) -> np.ndarray:
        begin, end = (start, stop) if exact_seek else (0, file.frames)
        blocks = list(_blocks(file, name, end, begin))
        return np.concatenate(blocks)[start - begin : stop - begin]

    return Source(file.frames, file.samplerate, file.channels, read, lambda: _blocks(file, name, file.frames))


@dataclass(frozen=True, slots=True)
class Part:
    """One of several successive streams in a file.

    `open` opens it. `num_frames` is the number of frames that decoding must give. `sample_rate` is in Hz.
    """

    open: Callable[[], SoundFile]
    num_frames: int
    sample_rate: int
    num_channels: int

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        """Decode all frames in blocks (frames, channels), float32 on the int16 scale. Raises AudioError if damaged."""
        with self.open() as file:
            yield from _blocks(file, name, self.num_frames)


def joined_source(parts: Sequence[Part], name: str) -> Source:
    """All parts as one `Source`. Raises AudioError if they differ in sampling rate or number of channels."""
    first = parts[0]
    for number, part in enumerate(parts, start=1):
        if (part.sample_rate, part.num_channels) != (first.sample_rate, first.num_channels):
            raise AudioError(
                f"{name}: {len(parts)} streams, one after the other: number 1 has {first.sample_rate} Hz and "
                f"{first.num_channels} channels, number {number} {part.sample_rate} Hz and {part.num_channels}; "
                "make a file of each"
            )

    def blocks() -> Iterator[np.ndarray]:
        return (block for part in parts for block in part.blocks(name))

    def read(start: int, stop: int) -> np.ndarray:
        """Decode from the beginning: lossy decoders give slightly other samples after a seek."""
        kept, position = [], 0
        for block in blocks():
            if position + len(block) > start:
                kept.append(block[max(start - position, 0) : stop - position])
            position += len(block)
            if position >= stop:
                break
        return np.concatenate(kept)

    return Source(sum(part.num_frames for part in parts), first.sample_rate, first.num_channels, read, blocks)


def _blocks(file: SoundFile, name: str, end: int, position: int = 0) -> Iterator[np.ndarray]:
    """Decode frames `position` to `end` in blocks. So a header that promises terabytes does not fill the memory."""
    try:
        if position:
            file.seek(position)
        while position < end:
            block = file.read_block(min(end - position, BLOCK_FRAMES))
            if len(block) == 0 and end != _UNKNOWN_FRAMES:
                raise too_short(name, end, position)
            yield block
            position += len(block)
            if len(block) == 0:
                return
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".") or "decoder error"
        promised = "" if end == _UNKNOWN_FRAMES else f"the header promises {end} samples, "
        raise AudioError(
            f"{name}: cut off or damaged ({reason}); {promised}{position} could be decoded; get the whole file"
        ) from None
