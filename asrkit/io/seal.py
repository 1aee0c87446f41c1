"""Seals model files: a SHA-256 digest at the end of the file, by which damage is found.

The last 64 bytes are the digest in hexadecimal digits. MARK stands before them. The digest covers the content and MARK:

    head -c -64 final.pt | sha256sum

Both kinds of model files remain valid with the seal. A zip archive (PyTorch) may have other bytes at its end. In an
ONNX file, MARK and digest form one more metadata entry with the name `sha256`. The digest finds accidental damage. It
does not protect against an attacker, who can compute a new digest.
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
# In Protocol Buffers: field 14 (74 bytes) contains field 1 (6 bytes, the key) and field 2 (64 bytes, the value).
MARK = b"\x72\x4a\x0a\x06" + DIGEST_KEY.encode() + b"\x12\x40"
_NUM_AT_END = len(MARK) + _NUM_DIGITS


def seal(content: bytes) -> bytes:
    """`content`, followed by mark and digest."""
    content += MARK
    return content + hashlib.sha256(content).hexdigest().encode()


def unsealed(content: bytes) -> bytes:
    """The content without the mark and digest that `seal` added."""
    return content[:-_NUM_AT_END]


def append_seal(stream: IO[bytes]) -> None:
    """Write mark and digest at the end of an open file. Raises OSError if it cannot be read or written."""
    stream.flush()
    with open_file(stream.name) as written:
        digest = hashlib.file_digest(written, "sha256")
    digest.update(MARK)
    stream.write(MARK + digest.hexdigest().encode())


def read_digest(path: str | Path) -> str | None:
    """The digest at the end of a file, without a check; None if the file or its digest is missing."""
    try:
        with open_file(path) as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(stream.tell() - _NUM_AT_END, 0))
            end = stream.read()
    except OSError:
        return None
    return end[len(MARK) :].decode("latin-1") if end.startswith(MARK) else None


def check_seal(stream: IO[bytes], name: str | Path, remedy: str) -> int:
    """Compare the digest at the end of an open file with the content of the file.

    Returns the number of bytes before the mark. The stream is then at the beginning of the file.

    Raises ModelError if the digest is missing or does not match. The message has the file's `name` and the `remedy`.
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
