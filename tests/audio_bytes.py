"""Audio files as bytes, made on the spot: by soundfile, or frame by frame where no encoder here writes a kind."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
import soundfile

RATE = 16000
MPEG_RATES = {"1": (44100, 48000, 32000), "2": (22050, 24000, 16000), "2.5": (11025, 12000, 8000)}
_VERSIONS = {"1": 3, "2": 2, "2.5": 0}


def speechlike(num_samples: int, seed: int = 0) -> np.ndarray:
    """A loud half and a quiet half, (num_samples,) float32: coded at rates that vary, they differ in size."""
    samples = np.random.default_rng(seed).normal(size=num_samples) * 0.1
    samples[num_samples // 2 :] *= 0.001
    return samples.astype(np.float32)


def encode(
    samples: np.ndarray, container: str, subtype: str | None = None, rate: int = RATE, **options: object
) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container, subtype=subtype, **options)
    return stream.getvalue()


def mp3(samples: np.ndarray, mode: str = "CONSTANT", rate: int = RATE) -> tuple[bytes, bytes]:
    """The frame that tells the length, and the frames of samples."""
    data = encode(samples, "MP3", "MPEG_LAYER_III", rate, bitrate_mode=mode, compression_level=0.5)
    mark = max(data.find(b"Xing", 0, 100), data.find(b"Info", 0, 100))
    assert mark > 0
    second = data.index(data[:2], mark + 100)
    return data[:second], data[second:]


def mpeg_frame(version: str, layer: int, bit_rate: int, rate: int, mono: bool = True, padding: int = 0) -> bytes:
    """A frame of silence: a header and zeros. `bit_rate` and `rate`: the header's numbers for them."""
    second = 0xE1 | _VERSIONS[version] << 3 | (4 - layer) << 1
    header = bytes((0xFF, second, bit_rate << 4 | rate << 2 | padding << 1, 0xC0 if mono else 0))
    return header + bytes(mpeg_frame_bytes(version, layer, bit_rate, rate, padding) - 4)


def mpeg_frame_bytes(version: str, layer: int, bit_rate: int, rate: int, padding: int) -> int:
    """After ISO 11172-3 and 13818-3: kbit/s by layer, for MPEG-1 and for the others."""
    tables = {
        (True, 1): "32 64 96 128 160 192 224 256 288 320 352 384 416 448",
        (True, 2): "32 48 56 64 80 96 112 128 160 192 224 256 320 384",
        (True, 3): "32 40 48 56 64 80 96 112 128 160 192 224 256 320",
        (False, 1): "32 48 56 64 80 96 112 128 144 160 176 192 224 256",
        (False, 2): "8 16 24 32 40 48 56 64 80 96 112 128 144 160",
        (False, 3): "8 16 24 32 40 48 56 64 80 96 112 128 144 160",
    }
    bits = 1000 * int(tables[version == "1", layer].split()[bit_rate - 1])
    hertz = MPEG_RATES[version][rate]
    if layer == 1:
        return (12 * bits // hertz + padding) * 4
    return mpeg_frame_samples(version, layer) // 8 * bits // hertz + padding


def mpeg_frame_samples(version: str, layer: int) -> int:
    return 384 if layer == 1 else 576 if layer == 3 and version != "1" else 1152


def id3v2(size: int, footer: bool = False) -> bytes:
    length = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    head = b"\x04\x00" + bytes([0x10 if footer else 0]) + length
    return b"ID3" + head + bytes([0xFF, 0xFB]) * (size // 2) + bytes(size % 2) + (b"3DI" + head if footer else b"")


def ape(content: bytes) -> bytes:
    def mark(flags: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII8x", 2000, len(content) + 32, 1, flags)

    return mark(0xA0000000) + content + mark(0x80000000)


def ogg_pages(data: bytes) -> list[bytes]:
    pages, position = [], 0
    while position < len(data):
        num_laces = data[position + 26]
        end = position + 27 + num_laces + sum(data[position + 27 : position + 27 + num_laces])
        pages.append(data[position:end])
        position = end
    return pages


def with_ogg_checksum(page: bytes) -> bytes:
    """The CRC of RFC 3533, bit by bit."""
    crc = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = crc << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if crc >> 31 else 0)
    return page[:22] + struct.pack("<I", crc) + page[26:]


def wav(
    samples: Sequence[int] | np.ndarray, riff_size: int, data_size: int, channels: int = 1, bits: int = 16
) -> bytes:
    """A WAV file with sizes as given; `samples` are whole numbers."""
    wide = np.asarray(samples, "<i4").reshape(-1, 1).view(np.uint8)[:, : bits // 8]
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, RATE, RATE * block, block, bits)
    head = b"RIFF" + struct.pack("<I", riff_size) + b"WAVEfmt " + struct.pack("<I", 16) + fmt
    return head + b"data" + struct.pack("<I", data_size) + wide.tobytes()


def patched(content: bytes, changes: Sequence[tuple[int, bytes]]) -> bytes:
    """With other bytes at some places."""
    result = bytearray(content)
    for place, value in changes:
        result[place : place + len(value)] = value
    return bytes(result)


def without_size(content: bytes, container: str) -> bytes:
    """As a program writes it that cannot go back to the header, when the samples have been written."""
    if container == "AIFF":  # ffmpeg's
        size, frames = content.index(b"SSND") + 4, content.index(b"COMM") + 10
        return patched(content, [(4, bytes(4)), (frames, bytes(4)), (size, bytes(4))])
    if container == "FLAC":  # the last 36 bits of bytes 10 to 17 of STREAMINFO, which begins at byte 8
        return patched(content, [(21, bytes([content[21] & 0xF0])), (22, bytes(4))])
    place, value = {
        "WAV": (content.find(b"data") + 4, b"\xff" * 4),
        "AU": (8, b"\xff" * 4),
        "W64": (content.find(b"data\xf3") + 16, struct.pack("<q", 2**63 - 1)),
        "CAF": (content.find(b"data") + 4, b"\xff" * 8),
    }[container]
    return patched(content, [(place, value)])
