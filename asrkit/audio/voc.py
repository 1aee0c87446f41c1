"""Creative's VOC files. libsndfile reads only the first of their blocks of samples, so all become one WAV file."""

from __future__ import annotations

import struct
from typing import BinaryIO

from asrkit.audio.chunks import check_joined, check_rest
from asrkit.audio.file_formats import HEAD_BYTES
from asrkit.audio.pieces import Pieces
from asrkit.audio.source import check_rate
from asrkit.errors import AudioError

_END, _SOUND, _MORE_SOUND, _EXTENDED, _NEW_SOUND = 0, 1, 2, 8, 9
# VOC's coding number -> WAV's coding number, and bits per sample.
_CODINGS = {0: (1, 8), 4: (1, 16), 6: (6, 8), 7: (7, 8)}


# sox writes one block and gives it a size that is this many bytes too small. Then the end mark follows.
_SOX_BYTES = 8
_MAX_BYTES = 2**32 - 37  # the most that a WAV header can give


def voc_as_wav(stream: BinaryIO, name: str, size: int) -> Pieces:
    """The samples of a VOC file of `size` bytes, as a WAV file. `name` is the name of the file in messages.

    Raises AudioError if the coding is not PCM, mu-law or A-law, if the file has pauses, or if its sampling rate
    changes. Also if it is truncated, or a second file follows the first.
    """
    stream.seek(0)
    head = stream.read(22)
    position = struct.unpack_from("<H", head, 20)[0] if len(head) == 22 else size
    described: tuple[int, int, int] | None = None  # sampling rate, number of channels, VOC's coding number
    extended: tuple[int, int, int] | None = None  # the same, from a block that describes the next block
    samples: list[range] = []
    while True:
        stream.seek(position)
        head = stream.read(HEAD_BYTES)
        check_joined(name, head, position)
        kind = head[0] if head else _END
        if kind == _END or (kind > _NEW_SOUND and samples):  # some programs leave out the end mark
            break
        end = position + 4 + int.from_bytes(head[1:4], "little")
        if len(head) < 4 or end > size:
            raise AudioError(f"{name}: cut off in the middle of the block at byte {position}; get the whole file")
        found, begin = described, position + 4
        if kind == _SOUND:
            found, begin, extended = extended or (1000000 // (256 - head[4]), 1, head[5]), position + 6, None
        elif kind == _EXTENDED:
            num_channels = head[7] + 1
            extended = (
                256000000 // (num_channels * (65536 - int.from_bytes(head[4:6], "little"))),
                num_channels,
                head[6],
            )
        elif kind == _NEW_SOUND:
            rate, _, num_channels, coding = struct.unpack_from("<IBBH", head, 4)
            found, begin = (rate, num_channels, coding), position + 16
        elif kind != _MORE_SOUND and kind not in (4, 5):  # marks and text
            raise AudioError(f"{name}: a VOC file with a block of kind {kind}, which is not read; convert it to WAV")
        if kind in (_SOUND, _MORE_SOUND, _NEW_SOUND):
            if found is None or found != (described or found):
                raise AudioError(f"{name}: a VOC file whose blocks have different rates, channels or codings")
            described = found
            samples.append(range(begin, max(begin, end)))
        position = end
        if kind == _NEW_SOUND and end + _SOX_BYTES + 1 == size:
            position = end + _SOX_BYTES
            samples[-1] = range(begin, position)
    if described is None:
        raise AudioError(f"{name}: a VOC file without samples ({size} bytes in all)")
    sample_rate, num_channels, number = described
    if number not in _CODINGS:
        raise AudioError(f"{name}: a VOC file of coding {number}, which is not read; convert it to WAV")
    check_rate(sample_rate, name)
    coding, bits = _CODINGS[number]
    block = num_channels * bits // 8
    check_rest(stream, name, (position, size), sample_rate * block, None)
    fmt = struct.pack("<HHIIHH", coding, num_channels, sample_rate, sample_rate * block, block, bits)
    num_bytes = sum(map(len, samples))
    if num_bytes > _MAX_BYTES:
        raise AudioError(f"{name}: {num_bytes} bytes of samples in a VOC file; expected less than 4 GiB")
    header = b"RIFF" + struct.pack("<I", 36 + num_bytes) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return Pieces(stream, [header + b"data" + struct.pack("<I", num_bytes), *samples])
