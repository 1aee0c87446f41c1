"""Ogg files (RFC 3533): pages of one or more successive streams. libsndfile decodes the first stream only."""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from asrkit.audio.chunks import check_joined
from asrkit.audio.pieces import Pieces
from asrkit.audio.sndfile import Part, SoundFile, joined_source, open_sndfile
from asrkit.audio.source import Source
from asrkit.errors import AudioError

_PAGE_HEADER = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4  # flags of a page
# Codecs that asrkit refuses, by the first bytes of their first packet: libsndfile lacks Speex, and calls FLAC damaged.
_NOT_READ = {b"\x7fFLAC": "FLAC", b"Speex": "Speex", b"\x80theora": "video (Theora)"}
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_source(stream: BinaryIO, name: str) -> Source:
    """Open an Ogg file. Its successive streams are joined.

    The last page need not have the flag of the last page, because the recorders of some telephones do not set it.

    Raises AudioError if a page is damaged, missing or truncated, if asrkit does not read the codec, or if streams
    differ in sampling rate or number of channels.
    """
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        links = []
        for link, last in _find_links(data, name):
            begin = link.start + _PAGE_HEADER.size + 1
            first_packet = data[begin : begin + 8]
            if kind := next((kind for mark, kind in _NOT_READ.items() if first_packet.startswith(mark)), None):
                raise AudioError(f"{name}: {kind} in Ogg, which is not read; convert it to WAV or FLAC")
            links.append(_pieces(data, link, last))
    parts = []
    for pieces in links:

        def open_link(pieces: Sequence[range | bytes] = pieces) -> SoundFile:
            return open_sndfile(Pieces(stream, pieces), name)

        with open_link() as file:
            parts.append(Part(open_link, file.frames, file.samplerate, file.channels))
    return joined_source([part for part in parts if part.num_frames > 0] or parts[:1], name)


def without_serial(content: bytes) -> bytes:
    """An Ogg file of one stream with the serial number 0: libsndfile draws a random one for each file that it writes.

    Raises AudioError if a page is damaged or truncated.
    """
    changed, position = bytearray(content), 0
    while (stop := _end_of_page(content, position, "Ogg")) is not None:
        changed[position + 14 : position + 18] = changed[position + 22 : position + 26] = bytes(4)
        changed[position + 22 : position + 26] = struct.pack("<I", _checksum(bytes(changed[position:stop])))
        position = stop
    return bytes(changed)


def _pieces(data: mmap.mmap, link: range, last: int) -> list[range | bytes]:
    """A link whose last page, at byte `last`, has the flag of the last page: libsndfile needs it to count samples."""
    if data[last + 5] & _ENDS:
        return [link]
    page = bytearray(data[last : link.stop])
    page[5] |= _ENDS
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _checksum(bytes(page)))
    return [range(link.start, last), bytes(page)]


def _find_links(data: mmap.mmap, name: str) -> Iterator[tuple[range, int]]:
    """For each link (streams that begin together): its bytes, and where its last page begins.

    Raises AudioError if pages are damaged or missing.
    """
    begin, position, last, in_header = 0, 0, 0, True
    numbers: dict[int, int] = {}  # stream -> number of its last page so far
    unfinished: set[int] = set()  # streams whose last page ends within a packet
    while position < len(data):
        stop = _end_of_page(data, position, name)
        if stop is None:
            break
        _, _, flags, _, serial, number, _, num_laces = _PAGE_HEADER.unpack_from(data, position)
        if flags & _BEGINS and not in_header:
            _refuse_unfinished(unfinished, position, name)
            yield range(begin, position), last
            begin, numbers = position, {}
        elif not flags & _BEGINS and number != numbers.get(serial, -1) + 1:
            raise AudioError(f"{name}: damaged: pages are missing before byte {position}; get the whole file")
        in_header = bool(flags & _BEGINS)
        numbers[serial] = number
        if num_laces:
            ends_within = data[position + _PAGE_HEADER.size + num_laces - 1] == 255
            (unfinished.add if ends_within else unfinished.discard)(serial)
        last, position = position, stop
    _refuse_unfinished(unfinished, position, name)
    yield range(begin, position), last


def _end_of_page(data: mmap.mmap | bytes, position: int, name: str) -> int | None:
    """The end of the page at `position`; None if no page begins here or later. Raises AudioError if it is damaged."""
    head = data[position : position + _PAGE_HEADER.size + 255]
    if not head.startswith(b"OggS"):
        if data.find(b"OggS\0", position) >= 0:
            raise AudioError(f"{name}: damaged at byte {position}: no Ogg page, and more follow; get an undamaged file")
        check_joined(name, head, position)
        return None
    size = len(head)
    if len(head) >= _PAGE_HEADER.size:
        num_laces = head[_PAGE_HEADER.size - 1]
        size = _PAGE_HEADER.size + num_laces + sum(head[_PAGE_HEADER.size : _PAGE_HEADER.size + num_laces])
    if len(head) < _PAGE_HEADER.size or position + size > len(data):
        raise AudioError(f"{name}: cut off in the middle of the Ogg page at byte {position}; get the whole file")
    page = data[position : position + size]
    if _checksum(page[:22] + bytes(4) + page[26:]) != struct.unpack_from("<I", page, 22)[0]:
        raise AudioError(f"{name}: damaged: the Ogg page at byte {position} has a wrong checksum; get it again")
    return position + size


def _refuse_unfinished(streams: set[int], position: int, name: str) -> None:
    if streams:
        raise AudioError(f"{name}: cut off before byte {position}: the last packet is not complete; get the whole file")


def _checksum(page: bytes) -> int:
    """Ogg's CRC-32. Unlike zlib's it reads the bits of a byte from the highest on, and inverts nothing."""
    crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
