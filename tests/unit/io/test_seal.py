"""The digest at the end of a model file covers every bit before it, and is itself compared."""

import hashlib
import io

import pytest

from asrkit.errors import ModelError
from asrkit.io.seal import append_seal, check_seal, read_digest, seal, unsealed


def check(content: bytes) -> int:
    return check_seal(io.BytesIO(content), "a.pt", "train again")


def test_whole_files_are_taken(tmp_path):
    content = bytes(range(256)) * 3
    sealed = seal(content)
    assert check(sealed) == len(content)
    assert unsealed(sealed) == content
    # What the documentation says anyone can do: head -c -64 FILE | sha256sum
    assert hashlib.sha256(sealed[:-64]).hexdigest().encode() == sealed[-64:]
    path = tmp_path / "a"
    with open(path, "wb") as stream:
        stream.write(content)
        append_seal(stream)
    assert path.read_bytes() == sealed
    assert read_digest(path) == sealed[-64:].decode()


def test_the_stream_is_left_at_its_beginning():
    stream = io.BytesIO(seal(b"content"))
    check_seal(stream, "a.pt", "train again")
    assert stream.read(7) == b"content"


def test_every_flipped_bit_is_found():
    sealed = seal(b"weights" * 20)
    for position in range(8 * len(sealed)):
        flipped = bytearray(sealed)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(ModelError, match=r"^a.pt: (damaged: its content does not agree|no digest at its end)"):
            check(bytes(flipped))


def test_every_cut_is_found():
    sealed = seal(b"weights" * 20)
    for length in range(len(sealed)):
        with pytest.raises(ModelError, match=r"^a.pt: no digest at its end: cut short, .* or train again$"):
            check(sealed[:length])


def test_files_without_a_digest_have_none(tmp_path):
    assert read_digest(tmp_path / "no") is None
    for content in (b"", b"short", b"x" * 1000):
        (tmp_path / "a").write_bytes(content)
        assert read_digest(tmp_path / "a") is None
