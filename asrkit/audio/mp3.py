"""MPEG audio (MP3, and layers I and II): finds the frames of a file and decodes their samples.

A file is a sequence of frames. Each frame has its own header. The number of frames stands only in an optional first
frame (Xing or Info; LAME adds the delay of its filters to it). So the frames are counted here. ID3, APE and Lyrics3
tags may stand before, between and after the frames.

Sources: ISO 11172-3 and ISO 13818-3 for the headers of frames, and the public descriptions of the Xing, LAME and VBRI
headers.
"""

from __future__ import annotations

import functools
import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from asrkit.audio.chunks import check_joined
from asrkit.audio.file_formats import HEAD_BYTES
from asrkit.audio.pieces import Pieces
from asrkit.audio.sndfile import Part, SoundFile, joined_source, open_sndfile
from asrkit.audio.source import Source, too_short
from asrkit.audio.tags import TAG_HEAD_BYTES, tag_bytes
from asrkit.errors import AudioError

_HEADER_BYTES = 4
# Bit rates in kbit/s, by four bits of the header: MPEG-1 (layers I, II, III), then MPEG-2 (layer I; layers II and III).
_BIT_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = (44100, 48000, 32000)
# More than the longest frame in the free format, in which the header does not give the length of the frame.
_MAX_FREE_BYTES = 8192
# libmpg123 estimates the length of a stream from the size of the file. With this size it decodes up to the true end.
_CLAIMED_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class Header:
    """The content of a frame's header.

    Attributes:
        stream: the values that all frames of one stream share: layer, is_mpeg1, sample_rate, num_channels.
        info_offset: the position in the frame, in bytes, of the mark Xing or Info.
        layer: 1, 2 or 3.
        is_mpeg1: True for MPEG-1, False for MPEG-2 and MPEG-2.5.
        sample_rate: in Hz.
        num_channels: 1 or 2.
        num_bytes: the length of the frame; 0 in the free format, in which the header does not give it.
        padding: the number of padding bytes in the frame.
    """

    stream: tuple[int, bool, int, int]
    info_offset: int
    layer: int
    is_mpeg1: bool
    sample_rate: int
    num_channels: int
    num_bytes: int
    padding: int

    @property
    def num_samples(self) -> int:
        """Number of samples per channel in a frame."""
        return {1: 384, 2: 1152, 3: 1152 if self.is_mpeg1 else 576}[self.layer]


def parse_header(head: bytes) -> Header | None:
    """The header of the frame that begins with `head` (at least 4 bytes); None if no frame begins like this."""
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
    num_channels = 1 if mode == 3 else 2
    stream = (layer, is_mpeg1, sample_rate, num_channels)
    info_offset = _HEADER_BYTES + {(True, 2): 32, (True, 1): 17, (False, 2): 17, (False, 1): 9}[is_mpeg1, num_channels]
    return Header(
        stream, info_offset, layer, is_mpeg1, sample_rate, num_channels, num_bytes if bit_rate else 0, padding
    )


def begins_with_frames(head: bytes) -> bool:
    """Whether `head` begins with two frames of one stream. Samples without a header hardly ever look like this."""
    header = parse_header(head)
    if header is None:
        return False
    following = parse_header(head[header.num_bytes :])
    return header.num_bytes == 0 or (following is not None and following.stream == header.stream)


@dataclass(frozen=True, slots=True)
class _Info:
    """The first frame of a stream, if it has no samples but the numbers of frames and bytes of the stream.

    `place`: the bytes of this frame. `num_bytes` includes them. A number that the frame does not give is None.
    """

    place: range
    num_frames: int | None = None
    num_bytes: int | None = None


@dataclass(slots=True)
class _Segment:
    """Successive frames of one stream. Tags may stand between them.

    `bounds`: begin and end of each run of frames without a tag, in bytes.
    """

    header: Header
    info: _Info | None
    bounds: list[list[int]] = field(default_factory=list)
    num_frames: int = 0

    def append(self, start: int, stop: int) -> None:
        """Add a frame."""
        if self.bounds and self.bounds[-1][1] == start:
            self.bounds[-1][1] = stop
        else:
            self.bounds.append([start, stop])
        self.num_frames += 1

    @property
    def pieces(self) -> list[range]:
        """The bytes of the frames."""
        return [range(start, stop) for start, stop in self.bounds]

    @property
    def is_cut(self) -> bool:
        """Whether frames are missing. Some encoders count one frame too many, so the number of bytes decides."""
        info = self.info
        if info is None or info.num_frames is None or self.num_frames >= info.num_frames:
            return False
        return info.num_bytes is None or len(info.place) + sum(map(len, self.pieces)) < info.num_bytes


def mp3_source(stream: BinaryIO, name: str, place: range | None = None) -> Source:
    """Open a file of MPEG audio, or the MPEG audio at the bytes `place` of a file. Its streams are joined.

    Raises AudioError if the file is damaged: other bytes stand between the frames, the last frame is truncated, or
    there are fewer frames than the first one says. Also if streams differ in sampling rate or number of channels.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        segments = [
            segment for segment in _Walk(data, name, place or range(len(data))).segments() if segment.num_frames
        ]
    if not segments:
        raise AudioError(f"{name}: no MPEG frames in it; expected MP3")
    return joined_source([_part(stream, name, segment) for segment in segments], name)


def _part(stream: BinaryIO, name: str, segment: _Segment) -> Part:
    """A segment as a part of the file. Raises AudioError if frames are missing."""
    header, info = segment.header, segment.info
    held = segment.num_frames * header.num_samples
    if info is not None and (segment.is_cut or segment.num_frames == info.num_frames):
        pieces = [info.place, *segment.pieces]

        def open_with_info() -> SoundFile:
            return open_sndfile(Pieces(stream, pieces), name)

        with open_with_info() as file:  # libmpg123 removes the delay that LAME's filters added at both ends
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
        self._found: dict[bytes, tuple[int, int]] = {}  # mark -> where its search began, and where it was found

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
                break  # mp3_source reports this, with both numbers of frames
            if stop > self._size:
                raise self._cut_off(position, stop - position)
            info = self._read_info(position, stop, header)
            if segment is None or info is not None or not is_same:
                if segment is not None:
                    yield segment
                segment = _Segment(header, info=info)
            if info is None:
                segment.append(position, stop)
            position = stop
        if segment is not None:
            yield segment

    def _read_info(self, position: int, stop: int, header: Header) -> _Info | None:
        """The information about the stream in the frame at `position`; None for a frame of samples."""
        if header.layer != 3:
            return None
        mark = position + header.info_offset
        if self._data[mark : mark + 4] in (b"Xing", b"Info") and mark + 16 <= stop:
            flags, first, second = struct.unpack_from(">III", self._data, mark + 4)
            num_frames, num_bytes = (first, second) if flags & 1 else (None, first)
            return _Info(range(position, stop), num_frames, num_bytes if flags & 2 else None)
        # libmpg123 does not know VBRI. This frame is left out; its numbers are not needed.
        return _Info(range(position, stop)) if self._data[position + 36 : position + 40] == b"VBRI" else None

    def _header(self, position: int) -> Header | None:
        data = self._data
        if position + _HEADER_BYTES > self._size or data[position] != 0xFF:
            return None
        return _parse(data[position + 1], data[position + 2], data[position + 3] >> 6)

    def _num_bytes(self, position: int, header: Header) -> int:
        """The length in bytes of the frame at `position`."""
        if header.num_bytes:
            return header.num_bytes
        if header.stream not in self._free_bytes:
            self._free_bytes[header.stream] = self._distance(position, header)
        return self._free_bytes[header.stream] + header.padding

    def _distance(self, position: int, header: Header) -> int:
        """The length in bytes of a frame in the free format, without padding: the distance to the next header."""
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
        """Whether a frame begins here: another frame of the same stream, a tag or the end of the file follows it."""
        stop = position + self._num_bytes(position, header)
        following = self._header(stop)
        if following is not None:
            return following.stream == header.stream
        return stop == self._size or (stop < self._size and self._tag_bytes(stop) > 0)

    def _tag_bytes(self, position: int) -> int:
        """The length in bytes of the tag that begins at `position`; 0 if none does."""
        head = self._data[position : position + TAG_HEAD_BYTES]
        if head.startswith(b"LYRICSBEGIN"):
            return max(max(self._find(mark, position) for mark in _LYRICS_ENDS) + 9 - position, 0)
        return tag_bytes(head)

    def _find(self, mark: bytes, position: int) -> int:
        """Like `find` of the data, but it does not search the same bytes repeatedly."""
        begin, place = self._found.get(mark, (self._size, -1))
        if position < begin:
            nearer = self._data.find(mark, position, begin + len(mark))
            place = place if nearer < 0 else nearer
        elif 0 <= place < position:
            place = self._data.find(mark, position)
        else:
            return place
        self._found[mark] = (position, place)
        return place

    def _cut_off(self, position: int, size: int | None = None) -> AudioError:
        held = self._size - position
        there = f"{held} bytes of it are" if size is None else f"{held} of its {size} bytes are"
        return AudioError(f"{self._name}: cut off in the middle of an MPEG frame ({there} there); get the whole file")

    def _after_other(self, position: int) -> int:
        """The position after bytes that are not a frame: a tag, zeros, or unknown bytes at the end.

        Raises AudioError if frames follow unknown bytes, or if another file follows.
        """
        if tag := self._tag_bytes(position):
            return position + tag
        if self._data[position] == 0xFF and position + _HEADER_BYTES > self._size:
            raise self._cut_off(position)
        check_joined(self._name, self._data[position : position + HEAD_BYTES], position)
        following = position
        while (following := self._data.find(b"\xff", following + 1, self._size)) >= 0:
            header = self._header(following)
            if header is not None and self._is_sure(following, header):
                break
        end = self._size if following < 0 else following
        if following >= 0 and _NOT_ZERO.search(self._data, position, end):
            raise AudioError(
                f"{self._name}: damaged: bytes {position} to {end} are not MPEG audio, but more of it follows; get an "
                "undamaged file"
            )
        return end


_NOT_ZERO = re.compile(rb"[^\0]")
_LYRICS_ENDS = (b"LYRICSEND", b"LYRICS200")
