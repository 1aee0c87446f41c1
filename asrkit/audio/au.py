"""AU files (Sun, NeXT). Compares the size in the header with the file, because libsndfile does not."""

from __future__ import annotations

import struct
from typing import BinaryIO

from asrkit.audio.chunks import check_rest, check_within
from asrkit.audio.pieces import Pieces
from asrkit.audio.source import is_open_size, too_short
from asrkit.errors import AudioError

_HEADER_BYTES = 24
# Bytes per sample for each coding number: mu-law, PCM of 8, 16, 24 and 32 bits, float, double, A-law.
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def checked_au(stream: BinaryIO, name: str, size: int) -> BinaryIO | Pieces:
    """Check the header of an AU file against its `size` in bytes. `name` names the file in messages.

    Returns the stream unchanged if its header gives a size. Otherwise the result has the true size in its header.

    Raises AudioError if the header promises more samples than the file holds, or a second file follows the first.
    """
    stream.seek(0)
    head = stream.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        raise AudioError(f"{name}: a header without samples ({size} bytes in all)")
    order = ">" if head.startswith(b".snd") else "<"
    begin, data_size, coding, sample_rate, num_channels = struct.unpack_from(f"{order}5I", head, 4)
    held = max(size - begin, 0)
    if held and (data_size == 0 or (is_open_size(data_size) and data_size > held)):
        check_within(stream, name, begin)
        stream.seek(0)
        content = bytearray(stream.read(begin))
        content[8:12] = struct.pack(f"{order}I", min(held, 0xFFFFFFFF))
        return Pieces(stream, [bytes(content), range(begin, size)])
    block_bytes = _WIDTHS.get(coding, 0) * num_channels
    if block_bytes and data_size // block_bytes > held // block_bytes:
        raise too_short(name, data_size // block_bytes, held // block_bytes)
    if not block_bytes and data_size > held:
        raise AudioError(
            f"{name}: the header promises {data_size} bytes of samples, the file holds {held}; get the whole file"
        )
    check_rest(stream, name, (begin + data_size, size), sample_rate * block_bytes, None)
    stream.seek(0)
    return stream
