"""WAV: a quick reader of plain files, and a check of every header's sizes against the file's."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from asrkit.audio.source import Source, too_short
from asrkit.errors import AudioError

# Data sizes that programs put into a WAV header when they cannot come back to it: ffmpeg, sox, arecord.
_STREAMING_SIZES = (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000)

# WAV codings of several samples a block: Microsoft and IMA ADPCM, GSM 06.10.
_BLOCK_CODINGS = (0x0002, 0x0011, 0x0031)

_PLAIN_HEADER_BYTES = 44


def is_wav(head: bytes) -> bool:
    """Whether a file that begins with `head` (12 bytes or more) is WAV, of either byte order, or RF64."""
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"


def plain_wav(stream: BinaryIO, name: str, size: int) -> Source | None:
    """The quick way for what most files are: 16-bit PCM behind the shortest WAV header, whole; None for all else."""
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
    if _PLAIN_HEADER_BYTES + data_size > size:
        return None

    def read(start: int, stop: int) -> np.ndarray:
        stream.seek(_PLAIN_HEADER_BYTES + start * block_bytes)
        raw = stream.read((stop - start) * block_bytes)
        if len(raw) < (stop - start) * block_bytes:
            raise too_short(name, num_frames, start + len(raw) // block_bytes)
        return np.frombuffer(raw, "<i2").reshape(-1, num_channels).astype(np.float32)

    return Source(num_frames, sample_rate, num_channels, read)


@dataclass(frozen=True, slots=True)
class _Header:
    """What a WAV header says. `begin`: the byte at which the samples begin; `data_size`: their bytes."""

    order: str  # of bytes, as struct's mark
    riff_size: int
    begin: int
    data_size: int
    block_bytes: int  # 0 without a `fmt ` chunk
    block_samples: int


def _read_header(stream: BinaryIO, name: str, size: int) -> _Header:
    """Read the chunks up to the samples. Raises AudioError when there is no `data` chunk."""
    order = ">" if stream.read(4) == b"RIFX" else "<"
    riff_size = struct.unpack(f"{order}I", stream.read(4))[0]
    stream.seek(12)
    block_bytes, block_samples, data_size_64 = 0, 1, None
    while True:
        chunk = stream.read(8)
        if len(chunk) < 8:
            raise AudioError(f"{name}: a WAV header without samples ({size} bytes in all); expected a `data` chunk")
        kind, chunk_size = chunk[:4], struct.unpack(f"{order}I", chunk[4:])[0]
        if kind == b"data":
            break
        body = stream.read(min(chunk_size, 64))
        if kind == b"fmt " and len(body) >= 16:
            coding, block_bytes = struct.unpack_from(f"{order}H10xH", body)
            if coding in _BLOCK_CODINGS and len(body) >= 20:
                block_samples = struct.unpack_from(f"{order}H", body, 18)[0]
        elif kind == b"ds64" and len(body) >= 16:
            data_size_64 = struct.unpack_from("<Q", body, 8)[0]
        stream.seek(chunk_size - len(body) + chunk_size % 2, io.SEEK_CUR)
    data_size = data_size_64 if data_size_64 is not None and chunk_size == 0xFFFFFFFF else chunk_size
    return _Header(order, riff_size, stream.tell(), data_size, block_bytes, block_samples)


@contextlib.contextmanager
def checked_wav(stream: BinaryIO, name: str, size: int) -> Iterator[BinaryIO]:
    """Compare a WAV header with the file's size, which libsndfile does not.

    Gives the stream back, or a temporary copy with the true sizes when the header was written by a program
    that streamed: it holds a place-holder for the size of the data, or none at all, and data follow.

    Raises AudioError for a header without samples, or one that promises more of them than the file holds.
    """
    header = _read_header(stream, name, size)
    held = size - header.begin
    never_filled_in = header.data_size == 0 and header.riff_size + 8 <= header.begin
    placeholder = header.data_size in _STREAMING_SIZES and header.data_size > held
    stream.seek(0)
    if held > 0 and (placeholder or never_filled_in):
        if size - 8 > 0xFFFFFFFF:
            raise AudioError(f"{name}: {size} bytes after a WAV header without sizes; expected less than 4 GiB")
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            for position, true_size in ((4, size - 8), (header.begin - 4, held)):
                copy.seek(position)
                copy.write(struct.pack(f"{header.order}I", true_size))
            copy.flush()
            yield copy
        return
    if header.data_size > held and header.block_bytes:
        promised, there = (count // header.block_bytes * header.block_samples for count in (header.data_size, held))
        raise too_short(name, promised, there)
    yield stream
