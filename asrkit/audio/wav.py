"""A fast reader of plain WAV files."""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from asrkit.audio.chunks import check_rest
from asrkit.audio.source import Source, too_short

_PLAIN_HEADER_BYTES = 44


def plain_wav(stream: BinaryIO, name: str, size: int) -> Source | None:
    """Open a plain WAV file: 16-bit PCM after the shortest possible header, not truncated. None for all other files.

    Most files are like this. `size` is the size of the file in bytes. Raises AudioError if unknown bytes follow the
    samples.
    """
    head = stream.read(_PLAIN_HEADER_BYTES)
    if len(head) < _PLAIN_HEADER_BYTES or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or head[36:40] != b"data":
        return None
    fmt_size, coding, num_channels, sample_rate, _, block_bytes, bits = struct.unpack_from("<IHHIIHH", head, 16)
    data_size = struct.unpack_from("<I", head, 40)[0]
    if fmt_size != 16 or coding != 1 or bits != 16 or not num_channels or block_bytes != 2 * num_channels:
        return None
    num_frames = data_size // block_bytes
    if not (sample_rate and num_frames and data_size == num_frames * block_bytes):
        return None
    end = _PLAIN_HEADER_BYTES + data_size
    if end > size:
        return None
    if end < size:
        check_rest(stream, name, (end, size), sample_rate * block_bytes)

    def read(start: int, stop: int) -> np.ndarray:
        stream.seek(_PLAIN_HEADER_BYTES + start * block_bytes)
        raw = stream.read((stop - start) * block_bytes)
        if len(raw) < (stop - start) * block_bytes:
            raise too_short(name, num_frames, start + len(raw) // block_bytes)
        return np.frombuffer(raw, "<i2").reshape(-1, num_channels).astype(np.float32)

    return Source(num_frames, sample_rate, num_channels, read)
