"""NIST SPHERE files: a text header of lines `name -type value`, then the interleaved samples.

Source: NIST's description of the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from asrkit.audio.chunks import check_rest
from asrkit.audio.source import Source, too_short
from asrkit.errors import AudioError
from asrkit.io.numbers import parse_whole

# NIST's tools write headers of 1024 bytes, and longer ones only for many fields.
_MAX_HEADER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Coding:
    """The coding of samples.

    `width`: bytes per sample. `byte_order`: NIST's mark; 01 or 0123 mean the least significant byte first. `table`:
    (256,) float32, the values of the codes of mu-law or A-law; None for PCM.
    """

    width: int
    byte_order: str
    table: np.ndarray | None

    def decode(self, raw: bytes) -> np.ndarray:
        """The samples (num_samples,) float32 on the int16 scale."""
        codes = np.frombuffer(raw, np.uint8).reshape(-1, self.width)
        if self.table is not None:
            return self.table[codes[:, 0]]
        # The bytes go into the upper bytes of an int32, so that all widths have the same scale.
        wide = np.zeros((len(codes), 4), np.uint8)
        wide[:, 4 - self.width :] = codes if self.byte_order.startswith("0") else codes[:, ::-1]
        return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(65536)


def sphere_source(stream: BinaryIO, name: str, size: int) -> Source:
    """Open a SPHERE file of `size` bytes.

    Raises AudioError if the header is faulty, the coding is not PCM, mu-law or A-law, or the file is truncated.
    """
    fields, header_bytes = _read_fields(stream, name)
    sample_rate, num_channels = _number(fields, name, "sample_rate"), _number(fields, name, "channel_count", 1)
    coding = _read_coding(fields, name)
    frame_bytes = coding.width * num_channels
    held = max(size - header_bytes, 0) // frame_bytes
    num_frames = _number(fields, name, "sample_count", held)
    if num_frames > held:
        raise too_short(name, num_frames, held)
    check_rest(stream, name, (header_bytes + num_frames * frame_bytes, size), sample_rate * frame_bytes, None)

    def read(start: int, stop: int) -> np.ndarray:
        stream.seek(header_bytes + start * frame_bytes)
        return coding.decode(stream.read((stop - start) * frame_bytes)).reshape(-1, num_channels)

    return Source(num_frames, sample_rate, num_channels, read)


def _read_fields(stream: BinaryIO, name: str) -> tuple[dict[str, str], int]:
    """The fields of the header (name -> value), and the size of the header in bytes."""
    try:
        lines = stream.read(16).split(b"\n")
        header_bytes = parse_whole(lines[1].decode("ascii").strip(), low=1, high=_MAX_HEADER_BYTES)
        if header_bytes is None:
            raise ValueError
        stream.seek(0)
        text = stream.read(header_bytes).decode("latin-1")
    except (ValueError, IndexError):
        raise AudioError(f"{name}: a SPHERE header without its size in the second line") from None
    body, end, _ = text.partition("end_head")
    if not end:
        raise AudioError(f"{name}: the SPHERE header has no `end_head` within its {header_bytes} bytes")
    fields = {}
    for line in body.split("\n")[2:]:
        parts = line.split(None, 2)
        if len(parts) == 3 and not line.startswith(";"):
            fields[parts[0]] = parts[2].strip()
    return fields, header_bytes


def _number(fields: Mapping[str, str], name: str, key: str, default: int | None = None) -> int:
    value = default if default is not None and key not in fields else parse_whole(fields.get(key, ""))
    if value is None or (value < 1 and key != "sample_count"):
        raise AudioError(f"{name}: SPHERE header: {key} is {fields.get(key, 'missing')}; expected a positive number")
    return value


def _read_coding(fields: Mapping[str, str], name: str) -> _Coding:
    coding = fields.get("sample_coding", "pcm").lower()
    for packer in ("shorten", "wavpack", "shortpack"):
        if packer in coding:
            raise AudioError(f"{name}: SPHERE compressed with {packer}, which is not read; expand it first (sph2pipe)")
    if coding not in _TABLES:
        raise AudioError(f"{name}: SPHERE sample_coding {coding}; expected pcm, ulaw or alaw")
    table = _TABLES[coding]
    width = _number(fields, name, "sample_n_bytes", None if table is None else 1)
    byte_order = fields.get("sample_byte_format", "")
    if width > 4 or (table is not None and width != 1):
        raise AudioError(f"{name}: SPHERE samples of {width} bytes ({coding}); expected 1 to 4, or 1 for ulaw and alaw")
    little = "0123"[:width]
    big = little[::-1]
    # libsndfile writes the two-byte marks for wider samples, too.
    if width > 1 and byte_order not in (little, big, "01", "10"):
        raise AudioError(f"{name}: SPHERE sample_byte_format {byte_order or 'missing'}; expected {little} or {big}")
    return _Coding(width, byte_order, table)


def _mu_law_table() -> np.ndarray:
    """(256,) float32: the 14-bit values of mu-law (ITU-T G.711), on the int16 scale."""
    codes = ~np.arange(256, dtype=np.int32) & 255
    magnitudes = (((codes & 15) << 3) + 132 << (codes >> 4 & 7)) - 132
    return np.where(codes & 128, -magnitudes, magnitudes).astype(np.float32)


def _a_law_table() -> np.ndarray:
    """(256,) float32: the 13-bit values of A-law (ITU-T G.711), on the int16 scale."""
    codes = np.arange(256, dtype=np.int32) ^ 0x55
    exponents = codes >> 4 & 7
    steps = ((codes & 15) << 4) + 8
    magnitudes = np.where(exponents > 0, steps + 256 << np.maximum(exponents - 1, 0), steps)
    return np.where(codes & 128, magnitudes, -magnitudes).astype(np.float32)


_MU_LAW = _mu_law_table()
_TABLES = {"pcm": None, "ulaw": _MU_LAW, "mu-law": _MU_LAW, "alaw": _a_law_table()}
