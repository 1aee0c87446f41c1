"""All that libsndfile decodes, through soundfile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile

from asrkit.audio.source import BLOCK_FRAMES, Source, too_short
from asrkit.errors import AudioError

_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's count for a FLAC stream whose header gives no length


class SoundFile(soundfile.SoundFile):
    """Reads on without seeking to where it is after each read, which disturbs MP3 and fails on streamed FLAC."""

    def seekable(self) -> bool:
        return False


def open_sndfile(stream: BinaryIO, name: str, head: bytes) -> SoundFile:
    """Open a file that begins with `head`. Raises AudioError when libsndfile does not know its format."""
    try:
        # By descriptor: soundfile would believe the ending of a name (.raw), and libsndfile's own reading
        # stays quiet about damage where soundfile's callbacks print tracebacks.
        os.lseek(stream.fileno(), 0, os.SEEK_SET)
        return SoundFile(stream.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        found = f"not audio that can be read ({reason}; it begins {head!r})"
        raise AudioError(f"{name}: {found}; expected WAV, FLAC, Ogg, MP3 or SPHERE") from None


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


def _blocks(file: SoundFile, name: str, end: int, position: int = 0) -> Iterator[np.ndarray]:
    """Decode frames `position` to `end` in blocks, so that a header that promises terabytes takes no memory."""
    try:
        if position:
            file.seek(position)
        while position < end:
            block = file.read(min(end - position, BLOCK_FRAMES), dtype="float32", always_2d=True)
            if len(block) == 0 and end != _UNKNOWN_FRAMES:
                raise too_short(name, file.frames, position)
            with np.errstate(over="ignore"):  # an infinite sample is reported with its time later
                block *= np.float32(32768)
            yield block
            position += len(block)
            if len(block) == 0:
                return
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".") or "decoder error"
        raise AudioError(
            f"{name}: broken off or damaged ({reason}); the header promises {file.frames} samples, "
            f"{position} could be decoded; get the whole file"
        ) from None
