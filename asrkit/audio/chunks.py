"""Files made of chunks: WAV, RF64, W64, AIFF, 8SVX and CAF. Compares the sizes in their headers with the file.

libsndfile does not: it reads a truncated file without an error. Of two concatenated files it reads the first only.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from asrkit.audio.file_formats import HEAD_BYTES, identify
from asrkit.audio.pieces import Pieces
from asrkit.audio.source import MAX_RATE, MIN_RATE, is_open_size, too_short
from asrkit.audio.tags import tag_bytes
from asrkit.errors import AudioError

# WAV's coding numbers for MPEG audio (layers I and II; layer III).
_MPEG_CODINGS = (0x0050, 0x0055)
# WAV codings that pack several samples into a block: Microsoft ADPCM, IMA ADPCM, GSM 06.10.
_BLOCK_CODINGS = (0x0002, 0x0011, 0x0031)
# AIFC codings for which the header's number of bits does not give the size of a sample. For each: bytes and samples per
# block and channel. 0 bytes: blocks differ in length.
_AIFC_BLOCKS = {
    **dict.fromkeys((b"ulaw", b"ULAW", b"alaw", b"ALAW"), (1, 1)),
    **dict.fromkeys((b"fl32", b"FL32"), (4, 1)),
    **dict.fromkeys((b"fl64", b"FL64"), (8, 1)),
    **dict.fromkeys((b"DWVW", b"DWVN"), (0, 1)),
    b"ima4": (34, 64),
    b"GSM ": (33, 160),
}
# Unknown bytes at the end of a file are ignored if they would last at most this long as audio (seconds).
_MAX_JUNK = 0.1
_BLOCK_BYTES = 2**16
_MAX_SIZE = 2**32 - 1  # the largest number in a field of 32 bits


@dataclass(frozen=True, slots=True)
class _Layout:
    """The layout of the chunks of a format.

    `first`: the byte at which the first chunk begins. `data`: the name of the chunk of samples. In that chunk,
    `data_offset` bytes stand between the header and the samples. `includes_header`: the size of a chunk includes its
    header. `reads_on`: libsndfile reads the bytes after the samples as samples, too.
    """

    order: str  # of bytes, as struct's mark
    data: bytes
    data_offset: int = 0
    id_bytes: int = 4
    size_code: str = "I"
    includes_header: bool = False
    alignment: int = 2
    first: int = 12
    reads_on: bool = False

    @property
    def header_bytes(self) -> int:
        return self.id_bytes + struct.calcsize(self.size_code)

    def parse(self, head: bytes) -> tuple[bytes, int]:
        """The name of a chunk, and the size of its body in bytes."""
        size = struct.unpack_from(self.order + self.size_code, head, self.id_bytes)[0]
        return head[: self.id_bytes], size - (self.header_bytes if self.includes_header else 0)

    def align(self, size: int) -> int:
        return -(-size // self.alignment) * self.alignment

    def pack(self, size: int) -> bytes:
        """The size field of a chunk with a body of `size` bytes."""
        return struct.pack(self.order + self.size_code, size + (self.header_bytes if self.includes_header else 0))


_RIFF = _Layout("<", b"data")
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_LAYOUTS = {
    b"RIFF": _RIFF,
    b"RF64": _RIFF,
    b"BW64": _RIFF,
    b"RIFX": _Layout(">", b"data"),
    b"riff": _Layout("<", b"data" + _W64_TAIL, 0, 16, "q", True, 8, first=40, reads_on=True),
    b"caff": _Layout(">", b"data", 4, size_code="q", alignment=1, first=8),
    b"AIFF": _Layout(">", b"SSND", 8),
    b"AIFC": _Layout(">", b"SSND", 8),
    b"8SVX": _Layout(">", b"BODY", reads_on=True),
    b"16SV": _Layout(">", b"BODY", reads_on=True),
}


@dataclass(slots=True)
class _Header:
    """What the header says about the samples.

    `form_size`: the size of the whole file, in bytes. `coding`: WAV's number of the coding. `begin`: the byte at which
    the samples begin. `size`: their length in bytes. A block has `block_bytes` (of all channels; 0 if not known) and
    `block_samples` per channel. `promised`: the number of samples per channel, if a field gives it. `places`: the
    positions of the size fields, in bytes.
    """

    form_size: int
    coding: int = 0
    begin: int = 0
    size: int = 0
    block_bytes: int = 0
    block_samples: int = 1
    sample_rate: int = 0
    promised: int = 0
    places: dict[str, int] = field(default_factory=dict)


def checked_chunks(stream: BinaryIO, name: str, size: int) -> BinaryIO | Pieces:
    """Check the sizes in the header of an open file against the `size` of the file, in bytes.

    Returns the stream if the header gives the sizes. A program that writes to a pipe cannot fill them in: the header
    then has a place-holder or 0. In that case the result has the true sizes in its header.

    Raises AudioError if the header has no chunk of samples or a negative size, or if a second file follows the first.
    Also if the header promises more samples than the file holds.
    """
    stream.seek(0)
    head = stream.read(12)
    layout = _LAYOUTS[head[:4] if head[:4] != b"FORM" else head[8:12]]
    header = _read_header(stream, name, size, layout)
    held = size - header.begin
    end = header.begin + header.size
    is_open = header.size == -1 or (
        is_open_size(header.size) and end != size and (end > size or not _step(stream, name, end, size, layout)[1])
    )
    # A size of 0 was never filled in if the size of the whole file was not filled in either, or is a place-holder.
    if header.size == 0 and held > 0:
        is_open = header.form_size + 8 <= header.begin or is_open_size(header.form_size)
    if header.size < 0 and not is_open:
        raise AudioError(f"{name}: the header gives the samples a size of {header.size} bytes; repair it")
    if is_open and held > 0:
        return _with_sizes(stream, name, size, layout, header)
    if header.block_bytes:
        promised, there = (
            count // header.block_bytes * header.block_samples for count in (header.size, min(held, header.size))
        )
        promised = max(promised, header.promised)
        if promised > there:
            raise too_short(name, promised, there)
    elif header.size > held:
        raise AudioError(
            f"{name}: the header promises {header.size} bytes of samples, the file holds {held}; get the whole file"
        )
    bytes_per_second = header.sample_rate * header.block_bytes // max(header.block_samples, 1)
    check_rest(stream, name, (end, size), bytes_per_second, layout)
    if end < size and layout.reads_on:
        return Pieces(stream, [range(end)])
    stream.seek(0)
    return Pieces(stream, [b"RF64", range(4, size)]) if head.startswith(b"BW64") else stream


def mpeg_place(stream: BinaryIO, name: str, size: int) -> range | None:
    """The bytes of MPEG audio inside a WAV file of `size` bytes; None for another coding.

    Raises AudioError as `checked_chunks`.
    """
    stream.seek(0)
    layout = _LAYOUTS[stream.read(4)]
    header = _read_header(stream, name, size, layout)
    if header.coding not in _MPEG_CODINGS:
        return None
    held = size - header.begin
    if header.size > held and not is_open_size(header.size):
        raise AudioError(
            f"{name}: the header promises {header.size} bytes of samples, the file holds {held}; get the whole file"
        )
    end = header.begin + min(header.size, held)
    check_rest(stream, name, (end, size), 0, layout)
    return range(header.begin, end)


def _chunks(stream: BinaryIO, size: int, layout: _Layout, position: int) -> Iterator[tuple[bytes, int, int, bytes]]:
    """For each chunk: its name, the position and size of its body, and the first bytes of its body."""
    while position + layout.header_bytes <= size:
        stream.seek(position)
        content = stream.read(layout.header_bytes + 64)
        name, chunk_size = layout.parse(content)
        position += layout.header_bytes
        yield name, position, chunk_size, content[layout.header_bytes :]
        if chunk_size < 0:
            return
        position += layout.align(chunk_size)


def _read_header(stream: BinaryIO, name: str, size: int, layout: _Layout) -> _Header:
    """Read the chunks up to the samples. Raises AudioError if no chunk has samples."""
    stream.seek(0)
    beginning = stream.read(24)
    form_size = 0
    if layout.first > 8:  # CAF has no size of the whole
        place = 16 if layout.first == 40 else 4
        form_size = struct.unpack_from(layout.order + layout.size_code, beginning.ljust(24, b"\0"), place)[0]
    header, big_sizes = _Header(form_size), None
    for kind, position, chunk_size, body in _chunks(stream, size, layout, layout.first):
        if kind == layout.data:
            header.begin = position + layout.data_offset
            header.size = chunk_size - layout.data_offset if chunk_size > 0 else chunk_size
            header.places["data"] = position - struct.calcsize(layout.size_code)
            if big_sizes is not None and chunk_size == 0xFFFFFFFF:
                header.form_size, header.size = big_sizes
            if header.block_bytes or header.sample_rate or layout.data != b"SSND":
                return header
            # In AIFF the description may follow the samples.
        elif kind == b"ds64" and len(body) >= 16:
            big_sizes = struct.unpack_from("<QQ", body)
            header.places["ds64"] = position
        elif len(body[: max(chunk_size, 0)]) >= 16:
            _describe(header, kind[:4], position, body[:chunk_size], layout.order)
    if not header.begin:
        raise AudioError(f"{name}: a header without samples ({size} bytes in all); expected a chunk of samples")
    return header


def _describe(header: _Header, kind: bytes, position: int, body: bytes, order: str) -> None:
    """Copy what a chunk says about the coding of the samples to `header`."""
    if kind == b"fmt ":
        header.coding, _, header.sample_rate, _, header.block_bytes = struct.unpack_from(f"{order}HHIIH", body)
        if header.coding in _BLOCK_CODINGS and len(body) >= 20:
            header.block_samples = struct.unpack_from(f"{order}H", body, 18)[0]
    elif kind == b"COMM" and len(body) >= 18:
        num_channels, header.promised, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", body)
        header.places["frames"] = position + 2
        header.sample_rate = mantissa >> min(max(16383 + 63 - (exponent & 0x7FFF), 0), 64)
        width, header.block_samples = _AIFC_BLOCKS.get(body[18:22], (-(-bits // 8), 1))
        header.block_bytes = width * num_channels
        if header.block_samples > 1:
            header.promised *= header.block_samples
    elif kind == b"desc" and len(body) >= 24:
        rate = struct.unpack_from(">d", body)[0]
        header.sample_rate = round(rate) if MIN_RATE <= rate <= MAX_RATE else 0
        header.block_bytes, header.block_samples = struct.unpack_from(">II", body, 16)
    elif kind == b"VHDR":
        header.sample_rate, header.block_bytes = struct.unpack_from(">H", body, 12)[0], 0


def _with_sizes(stream: BinaryIO, name: str, size: int, layout: _Layout, header: _Header) -> Pieces:
    """The file, with the true sizes in its header."""
    held = size - header.begin
    stream.seek(0)
    content = bytearray(stream.read(header.begin))
    check_within(stream, name, header.begin)
    samples = range(header.begin, size)

    def put(place: int, value: bytes) -> None:
        content[place : place + len(value)] = value

    if "ds64" in header.places:
        put(header.places["ds64"], struct.pack("<QQ", size - 8, held))
    elif layout.size_code == "I" and size > _MAX_SIZE:
        if layout is not _RIFF:
            raise AudioError(f"{name}: {size} bytes after a header without sizes; expected less than 4 GiB")
        put(header.places["data"], b"\xff\xff\xff\xff")
        sizes = struct.pack("<4sIQQQI", b"ds64", 28, size + 28, held, 0, 0)
        return Pieces(stream, [b"RF64\xff\xff\xff\xffWAVE" + sizes + bytes(content[12:]), samples])
    else:
        put(header.places["data"], layout.pack(held + layout.data_offset))
        if layout.first == 40:
            put(16, struct.pack("<q", size))
        elif layout.first == 12:
            put(4, struct.pack(f"{layout.order}I", size - 8))
    if "frames" in header.places and header.block_bytes:
        put(header.places["frames"], struct.pack(">I", held // header.block_bytes))
    return Pieces(stream, [bytes(content), samples])


def check_joined(name: str, head: bytes, position: int) -> None:
    """Raise AudioError if `head`, the bytes at `position` after the end of the audio `name`, begins a second file."""
    kind = identify(head)
    if kind is not None and kind.is_certain:
        raise AudioError(
            f"{name}: a second file ({kind.name}) begins at byte {position}; make a file of each, or join their samples"
        )


def check_within(stream: BinaryIO, name: str, samples: int, start: int = 0) -> None:
    """Raise AudioError if a second file of the same format follows the first one.

    For files whose header does not say where their samples end. `start` is the position of the header, `samples` that
    of the first sample, both in bytes.
    """
    stream.seek(start)
    mark = stream.read(4)
    stream.seek(samples)
    position, block = samples, stream.read(_BLOCK_BYTES)
    while len(block) >= HEAD_BYTES:
        place = -1
        while (place := block.find(mark, place + 1)) >= 0:
            check_joined(name, block[place : place + HEAD_BYTES], position + place)
        kept = block[-HEAD_BYTES:]
        position += len(block) - len(kept)
        following = stream.read(_BLOCK_BYTES)
        if not following:
            return
        block = kept + following


def check_rest(
    stream: BinaryIO, name: str, rest: tuple[int, int], bytes_per_second: int, layout: _Layout | None = _RIFF
) -> None:
    """Check the bytes of a file after its samples. `rest` gives the first of them, and the end of the file.

    Chunks, tags and zeros may stand there. Raises AudioError if another file stands there, or other bytes that would
    last longer than 0.1 s as audio at `bytes_per_second`.
    """
    position, size = rest
    while position < size and any(steps := _step(stream, name, position, size, layout)):
        position += sum(steps)
    if bytes_per_second and size - position > _MAX_JUNK * bytes_per_second:
        raise AudioError(
            f"{name}: the header accounts for {position} of the file's {size} bytes; repair the header, or remove "
            "what is not audio"
        )


def _step(stream: BinaryIO, name: str, position: int, size: int, layout: _Layout | None) -> tuple[int, int]:
    """The number of zeros at `position`, and the size of the chunk or tag after them; AudioError for another file."""
    stream.seek(position)
    content = stream.read(HEAD_BYTES)
    if content and not content.strip(b"\0"):  # many zeros may follow: read more at a time
        content += stream.read(_BLOCK_BYTES)
    num_zeros = len(content) - len(content.lstrip(b"\0"))
    stream.seek(position + num_zeros)
    head = stream.read(HEAD_BYTES)
    check_joined(name, head, position + num_zeros)
    if tag := tag_bytes(head):
        return num_zeros, tag
    if layout is None or len(head) < layout.header_bytes:
        return num_zeros, 0
    kind, chunk_size = layout.parse(head)
    is_chunk = kind[:4].isascii() and kind[:4].decode("ascii").isprintable() and chunk_size >= 0
    num_bytes = layout.header_bytes + chunk_size
    return num_zeros, num_bytes if is_chunk and position + num_zeros + num_bytes <= size else 0
