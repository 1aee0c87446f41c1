"""FLAC: libsndfile decodes one stream, and is silent about a second one behind it."""

from __future__ import annotations

import mmap
from typing import BinaryIO

from asrkit.audio.chunks import check_joined

# A stream begins with its mark and the header of STREAMINFO, which has 34 bytes.
_BEGINNINGS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")


def check_flac(stream: BinaryIO, name: str, begin: int) -> None:
    """Raise AudioError when another FLAC stream follows the one that begins at byte `begin`."""
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for beginning in _BEGINNINGS:
            position = data.find(beginning, begin + 4)
            if position >= 0:
                check_joined(name, data[position : position + 8], position)
