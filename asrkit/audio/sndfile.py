"""All that libsndfile decodes, through soundfile."""

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

_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's count for a FLAC stream whose header gives no length

# Those whose header was compared with the file, or has no length: IRCAM, PVF. libsndfile itself compares HTK's.
_CONTAINERS = frozenset(
    (*("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "SVX", "FLAC", "OGG", "MP3"), *("IRCAM", "PVF", "HTK"))
)


class SoundFile(soundfile.SoundFile):
    """Reads on without seeking to where it is after each read, which disturbs MP3 and fails on streamed FLAC."""

    def __init__(self, *args: Any, **options: Any) -> None:
        with quiet_c_library():
            super().__init__(*args, **options)

    def seekable(self) -> bool:
        return False

    def read_block(self, num_frames: int) -> np.ndarray:
        """The next frames (at most `num_frames`, channels), float32 on the int16 scale."""
        with quiet_c_library():
            block = self.read(num_frames, dtype="float32", always_2d=True)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is reported with its time later
            block *= np.float32(32768)
        return block


def open_sndfile(stream: BinaryIO | Pieces, name: str) -> SoundFile:
    """Open a file. Raises AudioError when libsndfile does not know its format."""
    try:
        if isinstance(stream, Pieces):
            stream.seek(0)
            file = SoundFile(stream)
        else:
            # By descriptor: soundfile would believe the ending of a name (.raw), and libsndfile's own reading
            # stays quiet about damage where soundfile's callbacks print tracebacks.
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
    """The frames of an open file. `whole` is False when it is enough that `blocks` works, once."""
    if file.frames == _UNKNOWN_FRAMES and whole:
        samples = np.concatenate(list(_blocks(file, name, _UNKNOWN_FRAMES)))
        return Source(len(samples), file.samplerate, file.channels, lambda start, stop: samples[start:stop])
    # Lossy decoders carry state: what they give after a seek differs a little from decoding from the beginning.
    exact_seek = file.subtype.startswith(("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW"))

    def read(start: int, stop: int) -> np.ndarray:
        begin, end = (start, stop) if exact_seek else (0, file.frames)
        blocks = list(_blocks(file, name, end, begin))
        return np.concatenate(blocks)[start - begin : stop - begin]

    return Source(file.frames, file.samplerate, file.channels, read, lambda: _blocks(file, name, file.frames))


@dataclass(frozen=True, slots=True)
class Part:
    """One of several streams that a file holds, one after the other. `num_frames`: what decoding it must give."""

    open: Callable[[], SoundFile]
    num_frames: int
    sample_rate: int
    num_channels: int

    def blocks(self, name: str) -> Iterator[np.ndarray]:
        with self.open() as file:
            yield from _blocks(file, name, self.num_frames)


def joined_source(parts: Sequence[Part], name: str) -> Source:
    """The frames of all parts. Raises AudioError when they differ in rate or channels."""
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
        """From the beginning: what lossy decoders give after a seek differs a little."""
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
    """Decode frames `position` to `end` in blocks, so that a header that promises terabytes takes no memory."""
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
