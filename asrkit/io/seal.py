"""Model files end with the SHA-256 digest of all that comes before it, so that damage is found.

The last 64 bytes are the digest in hexadecimal digits; before them stands MARK, which the digest covers too:

    head -c -64 final.pt | sha256sum

Both kinds of model files bear it: a zip archive (PyTorch) may be followed by other bytes, and to an ONNX file MARK and
digest are one more entry of its metadata, of the name `sha256`. A digest finds what happened to a file by accident.
Whoever means harm can compute one, too.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO

from asrkit.errors import ModelError, location
from asrkit.io.files import open_file

_NUM_DIGITS = 64
DIGEST_KEY = "sha256"
# Protocol Buffers: field 14 of 74 bytes, in it field 1 of 6 bytes, the key, and field 2 of 64 bytes, the value.
MARK = b"\x72\x4a\x0a\x06" + DIGEST_KEY.encode() + b"\x12\x40"
_NUM_AT_END = len(MARK) + _NUM_DIGITS


def seal(content: bytes) -> bytes:
    """`content` with mark and digest behind it."""
    content += MARK
    return content + hashlib.sha256(content).hexdigest().encode()


def unsealed(content: bytes) -> bytes:
    """The content without the mark and digest of `seal`."""
    return content[:-_NUM_AT_END]


def append_seal(stream: IO[bytes]) -> None:
    """Write mark and digest behind what was written to a file so far."""
    stream.flush()
    with open_file(stream.name) as written:
        digest = hashlib.file_digest(written, "sha256")
    digest.update(MARK)
    stream.write(MARK + digest.hexdigest().encode())


def read_digest(path: str | Path) -> str | None:
    """The digest at a file's end, unchecked; None where there is none, or no file."""
    try:
        with open_file(path) as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(stream.tell() - _NUM_AT_END, 0))
            end = stream.read()
    except OSError:
        return None
    return end[len(MARK) :].decode("latin-1") if end.startswith(MARK) else None


def check_seal(stream: IO[bytes], name: str | Path, remedy: str) -> int:
    """Compare the digest at the end of a file, open at its beginning, with what comes before it.

    Returns how many bytes stand before mark and digest, and leaves the stream at the beginning again. Raises
    ModelError, naming the file `name` and the `remedy`, where the digest is missing or another.
    """
    size = stream.seek(0, os.SEEK_END) - _NUM_AT_END
    stream.seek(max(size, 0))
    end = stream.read()
    if size < 0 or not end.startswith(MARK):
        raise ModelError(
            f"{location(name)}no digest at its end: cut short, or not made by this version of asrkit; copy it again, "
            f"or {remedy}"
        )
    stream.seek(0)
    digest = hashlib.sha256()
    left = size + len(MARK)
    while left > 0 and (block := stream.read(min(left, 2**20))):
        digest.update(block)
        left -= len(block)
    if digest.hexdigest().encode() != end[len(MARK) :]:
        raise ModelError(
            f"{location(name)}damaged: its content does not agree with the digest at its end; copy it again, or "
            f"{remedy}"
        )
    stream.seek(0)
    return size
