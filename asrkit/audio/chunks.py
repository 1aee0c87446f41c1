"""Files made of chunks: WAV, RF64, W64, AIFF, 8SVX and CAF. Their sizes are compared with the file's.

libsndfile does not compare them: it reads what is there of a file that was cut off, and stops at the end of the first
of two files that were joined.
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

# WAV's numbers of MPEG audio (layers I and II; III).
_MPEG_CODINGS = (0x0050, 0x0055)
# WAV codings of several samples a block: Microsoft and IMA ADPCM, GSM 06.10.
_BLOCK_CODINGS = (0x0002, 0x0011, 0x0031)
# AIFC codings whose samples do not have the header's bits: bytes and samples of a block of one channel; 0 where blocks
# differ in length.
_AIFC_BLOCKS = {
    **dict.fromkeys((b"ulaw", b"ULAW", b"alaw", b"ALAW"), (1, 1)),
    **dict.fromkeys((b"fl32", b"FL32"), (4, 1)),
    **dict.fromkeys((b"fl64", b"FL64"), (8, 1)),
    **dict.fromkeys((b"DWVW", b"DWVN"), (0, 1)),
    b"ima4": (34, 64),
    b"GSM ": (33, 160),
}
# Bytes behind the end that no chunk accounts for are no audio, if they would not last longer than this (seconds).
_MAX_JUNK = 0.1
_BLOCK_BYTES = 2**16
_MAX_SIZE = 2**32 - 1  # that a field of 32 bits holds


@dataclass(frozen=True, slots=True)
class _Layout:
    """The layout of chunks.

    `first`: the byte at which the first one begins. `data`: the name of the chunk of samples, after whose header come
    `data_offset` other bytes. `includes_header`: a chunk's size counts its header. `reads_on`: libsndfile takes what
    stands behind the samples for more of them.
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
        """Name of a chunk, and the size of what follows its header."""
        size = struct.unpack_from(self.order + self.size_code, head, self.id_bytes)[0]
        return head[: self.id_bytes], size - (self.header_bytes if self.includes_header else 0)

    def align(self, size: int) -> int:
        return -(-size // self.alignment) * self.alignment

    def pack(self, size: int) -> bytes:
        """The size field of a chunk whose body has this many bytes."""
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
    """The header's information about the samples.

    `coding`: WAV's number of how they are written. `begin`: the byte at which they begin; `size`: their bytes.
    `block_bytes` (of all channels; 0 when not known) hold `block_samples` of each channel. `promised`: samples of each
    channel, where a field says it. `places`: the bytes at which sizes stand.
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
    """Compare a header's sizes with the file's.

    Gives the stream back; or with the true sizes in its header, where a program that could not come back to it wrote
    it: it holds a place-holder, or no size at all, and samples follow.

    Raises AudioError for a header without samples or with a negative size, or one that promises more samples than the
    file holds, and for a second file behind the first.
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
    # A size of 0 was never filled in, if the whole file's was not either, or is a place-holder.
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
    """The bytes of MPEG audio inside a WAV file; None when it has another coding. Raises AudioError as above."""
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
    """Name, the body's first byte and size, and its beginning, of each chunk."""
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
    """Read the chunks up to the samples. Raises AudioError when there is no chunk of them."""
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
            # AIFF's description may stand behind the samples.
        elif kind == b"ds64" and len(body) >= 16:
            big_sizes = struct.unpack_from("<QQ", body)
            header.places["ds64"] = position
        elif len(body[: max(chunk_size, 0)]) >= 16:
            _describe(header, kind[:4], position, body[:chunk_size], layout.order)
    if not header.begin:
        raise AudioError(f"{name}: a header without samples ({size} bytes in all); expected a chunk of samples")
    return header


def _describe(header: _Header, kind: bytes, position: int, body: bytes, order: str) -> None:
    """Take what a chunk says of how samples are written."""
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
    """The file with its true sizes in the header."""
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
    """Raise AudioError when a file begins with `head` where the one before it ends."""
    kind = identify(head)
    if kind is not None and kind.is_certain:
        raise AudioError(
            f"{name}: a second file ({kind.name}) begins at byte {position}; make a file of each, or join their samples"
        )


def check_within(stream: BinaryIO, name: str, samples: int, start: int = 0) -> None:
    """Raise AudioError when a file of the same format follows the one that begins at byte `start`.

    For files that do not say where their samples, which begin at byte `samples`, end.
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
    """Look at the bytes `rest` (first, end) of a file behind its samples.

    Chunks, tags and zeros belong there. Raises AudioError for another file, and for more than may be junk.
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
    """How many zeros are at `position`, and the bytes of a chunk or tag behind them. Raises AudioError for a file."""
    stream.seek(position)
    content = stream.read(HEAD_BYTES)
    if content and not content.strip(b"\0"):  # only then are zeros what there may be much of
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
