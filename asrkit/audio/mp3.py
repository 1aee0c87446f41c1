"""MPEG audio (MP3, and layers I and II): which frames a file holds, and their samples.

A file is a row of frames, each with its own header. Nothing says how many there are, but for a first frame that some
encoders write (after Xing; LAME adds what its filters delayed), so the frames are counted. Tags of ID3, APE and
Lyrics3 stand before, between and after them. After the public description of the headers (ISO 11172-3, ISO 13818-3)
and of the Xing, LAME and VBRI headers.
"""

from __future__ import annotations

import functools
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from asrkit.audio.pieces import Pieces
from asrkit.audio.sndfile import Part, SoundFile, joined_source, open_sndfile
from asrkit.audio.source import Source, too_short
from asrkit.audio.tags import TAG_HEAD_BYTES, tag_bytes
from asrkit.errors import AudioError

_HEADER_BYTES = 4
# kbit/s by the header's four bits, of MPEG-1 (layers I, II, III) and of MPEG-2 (layer I, then II and III).
_BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = (44100, 48000, 32000)
# More than the longest frame, whose length its header does not tell (free format).
_MAX_FREE_BYTES = 8192
# Makes libmpg123's estimate of a stream's length greater than any file's: it decodes until nothing more comes.
_CLAIMED_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame's header says. `num_bytes`: of the frame; 0 in the free format, which does not say it."""

    layer: int
    is_mpeg1: bool
    sample_rate: int
    num_channels: int
    num_bytes: int
    padding: int

    @property
    def num_samples(self) -> int:
        """Of each channel in a frame."""
        return {1: 384, 2: 1152, 3: 1152 if self.is_mpeg1 else 576}[self.layer]

    @property
    def stream(self) -> tuple[int, bool, int, int]:
        """What is the same in all frames of one stream."""
        return self.layer, self.is_mpeg1, self.sample_rate, self.num_channels


def parse_header(head: bytes) -> Header | None:
    """The header of the frame that begins with `head` (4 bytes); None when no frame begins so."""
    return _parse(head[1], head[2], head[3] >> 6) if len(head) >= _HEADER_BYTES and head[0] == 0xFF else None


@functools.cache
def _parse(second: int, third: int, mode: int) -> Header | None:
    version, layer, rate = second >> 3 & 3, 4 - (second >> 1 & 3), third >> 2 & 3
    if second < 0xE0 or version == 1 or layer == 4 or rate == 3 or third >= 0xF0:
        return None
    is_mpeg1 = version == 3
    sample_rate = _SAMPLE_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    bit_rate = 1000 * _BIT_RATES[(1, layer) if is_mpeg1 else (2, min(layer, 2))][third >> 4]
    padding = third >> 1 & 1
    if layer == 1:
        padding *= 4
        num_bytes = 12 * bit_rate // sample_rate * 4 + padding
    else:
        num_bytes = (144 if layer == 2 or is_mpeg1 else 72) * bit_rate // sample_rate + padding
    return Header(layer, is_mpeg1, sample_rate, 1 if mode == 3 else 2, num_bytes if bit_rate else 0, padding)


def begins_with_frames(head: bytes) -> bool:
    """Whether two frames of one stream begin `head`: samples without a header hardly look so."""
    header = parse_header(head)
    if header is None:
        return False
    following = parse_header(head[header.num_bytes :])
    return header.num_bytes == 0 or (following is not None and following.stream == header.stream)


@dataclass(slots=True)
class _Segment:
    """Frames of one stream, in a row but for tags between them.

    `info`: the bytes of the frame that tells their number; it has no samples of its own. `promised_frames` and
    `promised_bytes` (with that frame) are what it says, where it does.
    """

    header: Header
    pieces: list[range] = field(default_factory=list)
    num_frames: int = 0
    info: range | None = None
    promised_frames: int | None = None
    promised_bytes: int | None = None

    def append(self, start: int, stop: int) -> None:
        """Add a frame."""
        if self.pieces and self.pieces[-1].stop == start:
            self.pieces[-1] = range(self.pieces[-1].start, stop)
        else:
            self.pieces.append(range(start, stop))
        self.num_frames += 1

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.pieces)) + (0 if self.info is None else len(self.info))

    @property
    def is_cut(self) -> bool:
        """Whether frames are missing. Some encoders count one frame too many: their number of bytes decides."""
        if self.promised_frames is None or self.num_frames >= self.promised_frames:
            return False
        return self.promised_bytes is None or self.num_bytes < self.promised_bytes


def mp3_source(stream: BinaryIO, name: str, place: range | None = None) -> Source:
    """Open a file of MPEG audio, all streams of it in a row; or what stands at the bytes `place` of a file.

    Raises AudioError for damage: bytes between the frames that are none, a last frame that is cut off, fewer frames
    than the first one promises; and for streams of different rates or channels.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        segments = [
            segment for segment in _Walk(data, name, place or range(len(data))).segments() if segment.num_frames
        ]
    if not segments:
        raise AudioError(f"{name}: no MPEG frames in it; expected MP3")
    return joined_source([_part(stream, name, segment) for segment in segments], name)


def _part(stream: BinaryIO, name: str, segment: _Segment) -> Part:
    """Raises AudioError when frames are missing."""
    header, info = segment.header, segment.info
    held = segment.num_frames * header.num_samples
    if info is not None and (segment.is_cut or segment.num_frames == segment.promised_frames):

        def open_with_info() -> SoundFile:
            return open_sndfile(Pieces(stream, [info, *segment.pieces]), name)

        with open_with_info() as file:  # libmpg123 leaves out what LAME's filters added at both ends
            if segment.is_cut:
                raise too_short(name, file.frames, held)
            return Part(open_with_info, file.frames, file.samplerate, file.channels)
    return Part(
        lambda: open_sndfile(Pieces(stream, segment.pieces, _CLAIMED_BYTES), name),
        held,
        header.sample_rate,
        header.num_channels,
    )


class _Walk:
    """Goes through a file from frame to frame."""

    def __init__(self, data: mmap.mmap, name: str, place: range) -> None:
        self._data, self._name, self._begin, self._size = data, name, place.start, place.stop
        self._free_bytes: dict[tuple[int, bool, int, int], int] = {}  # bytes of a frame in the free format

    def segments(self) -> Iterator[_Segment]:
        position, segment = self._begin, None
        while position < self._size:
            header = self._header(position)
            is_same = header is not None and segment is not None and header.stream == segment.header.stream
            if header is None or not (is_same or self._is_sure(position, header)):
                position = self._after_other(position)
                continue
            stop = position + self._num_bytes(position, header)
            if stop > self._size and segment is not None and segment.is_cut:
                break  # there are two numbers for the message then
            if stop > self._size:
                raise AudioError(
                    f"{self._name}: broken off in the middle of an MPEG frame ({self._size - position} of its "
                    f"{stop - position} bytes are there); get the whole file"
                )
            is_info, promised_frames, promised_bytes = _read_info(self._data[position:stop], header)
            if segment is None or is_info or not is_same:
                if segment is not None:
                    yield segment
                segment = _Segment(header)
            if is_info:
                segment.info = range(position, stop)
                segment.promised_frames, segment.promised_bytes = promised_frames, promised_bytes
            else:
                segment.append(position, stop)
            position = stop
        if segment is not None:
            yield segment

    def _header(self, position: int) -> Header | None:
        return parse_header(self._data[position : position + _HEADER_BYTES])

    def _num_bytes(self, position: int, header: Header) -> int:
        """Of the frame at `position`."""
        if header.num_bytes:
            return header.num_bytes
        if header.stream not in self._free_bytes:
            self._free_bytes[header.stream] = self._distance(position, header)
        return self._free_bytes[header.stream] + header.padding

    def _distance(self, position: int, header: Header) -> int:
        """Bytes of a frame in the free format without its padding: as many as there are up to the next header."""
        following = position + _HEADER_BYTES
        limit = min(self._size, position + _MAX_FREE_BYTES)
        while (following := self._data.find(b"\xff", following, limit)) >= 0:
            other = self._header(following)
            if other is not None and other.num_bytes == 0 and other.stream == header.stream:
                distance = following - position - header.padding
                third = following + distance + other.padding
                if third >= self._size or ((last := self._header(third)) and last.stream == header.stream):
                    return distance
            following += 1
        return self._size - position  # one frame

    def _is_sure(self, position: int, header: Header) -> bool:
        """Whether a frame begins here: it is followed by another of the same stream, by a tag or by the end."""
        stop = position + self._num_bytes(position, header)
        following = self._header(stop)
        if following is not None:
            return following.stream == header.stream
        return stop == self._size or (stop < self._size and _tag_bytes(self._data, stop) > 0)

    def _after_other(self, position: int) -> int:
        """Where it goes on after what is no frame: a tag, zeros, or whatever stands at the end.

        Raises AudioError when frames follow something else.
        """
        if tag := _tag_bytes(self._data, position):
            return position + tag
        following = position
        while (following := self._data.find(b"\xff", following + 1, self._size)) >= 0:
            header = self._header(following)
            if header is not None and self._is_sure(following, header):
                break
        end = self._size if following < 0 else following
        if following >= 0 and _NOT_ZERO.search(self._data, position, end):
            raise AudioError(
                f"{self._name}: damaged: bytes {position} to {end} are no MPEG audio, and more of it follows; get an "
                "undamaged file"
            )
        return end


_NOT_ZERO = re.compile(rb"[^\0]")


def _tag_bytes(data: mmap.mmap, position: int) -> int:
    """Length of the tag that begins at `position`; 0 when none does."""
    head = data[position : position + TAG_HEAD_BYTES]
    if head.startswith(b"LYRICSBEGIN"):
        return max(max(data.find(mark, position) for mark in (b"LYRICSEND", b"LYRICS200")) + 9 - position, 0)
    return tag_bytes(head)


def _read_info(frame: bytes, header: Header) -> tuple[bool, int | None, int | None]:
    """Whether a frame holds no samples but a description of the stream; the frames and bytes that it promises."""
    if header.layer != 3:
        return False, None, None
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return True, None, None  # libmpg123 does not know it
    side_bytes = {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[header.is_mpeg1, header.num_channels]
    mark = _HEADER_BYTES + side_bytes
    if frame[mark : mark + 4] not in (b"Xing", b"Info") or len(frame) < mark + 16:
        return False, None, None
    flags, first, second = struct.unpack_from(">III", frame, mark + 4)
    num_frames, num_bytes = (first, second) if flags & 1 else (None, first)
    return True, num_frames, num_bytes if flags & 2 else None
