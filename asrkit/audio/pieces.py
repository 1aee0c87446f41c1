"""A file made of pieces of another file, without a copy on disk."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO

# libmpg123 looks for a tag in this many bytes at a file's end, and does not read a file that ends before them.
_TAG_BYTES = 128
_CACHE_BYTES = 2**16


class Pieces:
    """Joins pieces, which are byte ranges of an open file or bytes objects, to one file.

    It has the methods that soundfile needs. No method raises an error: a range that cannot be read ends early, and the
    decoder then finds that samples are missing.

    Args:
        stream: the open file. It must stay open. Its own position is not used.
        pieces: ranges of its bytes (step 1), or bytes objects.
        claimed: a number of bytes that the file claims in addition to its true length. A decoder that estimates the
            number of samples from the length then decodes up to the true end.
    """

    def __init__(self, stream: BinaryIO, pieces: Sequence[range | bytes], claimed: int = 0) -> None:
        self._file = stream.fileno()
        self._pieces = [piece for piece in pieces if len(piece)]
        self._ends = list(accumulate(map(len, self._pieces)))
        self._size = self._ends[-1] if self._ends else 0
        self._claimed = self._size + claimed
        self._position = 0
        self._cached, self._cached_from = b"", 0  # because decoders read a few bytes at a time

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in bytes, as `io.IOBase.seek`. The end is the claimed one. Returns the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed}[whence]
        self._position = max(start + offset, 0)
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def read(self, size: int) -> bytes:
        """Read `size` bytes; fewer at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, buffer: memoryview) -> int:
        """Fill `buffer` with the next bytes, and return their number. Zeros stand just before the claimed end."""
        if self._position >= max(self._claimed - _TAG_BYTES, self._size):
            count = max(min(len(buffer), self._claimed - self._position), 0)
            buffer[:count] = bytes(count)
            self._position += count
            return count
        done = 0
        while done < len(buffer):
            content = self._content(len(buffer) - done)
            if not content:
                break
            buffer[done : done + len(content)] = content
            done += len(content)
            self._position += len(content)
        return done

    def _content(self, size: int) -> bytes:
        """At most `size` bytes from the position on, from the cache if it has them."""
        offset = self._position - self._cached_from
        if not 0 <= offset < len(self._cached):
            self._cached, self._cached_from, offset = self._fetch(), self._position, 0
        return self._cached[offset : offset + size]

    def _fetch(self) -> bytes:
        """Read some bytes from the position on; none at the end."""
        number = bisect_right(self._ends, self._position)
        if number == len(self._pieces):
            return b""
        piece = self._pieces[number]
        part = piece[self._position - (self._ends[number] - len(piece)) :][:_CACHE_BYTES]
        if isinstance(part, bytes):
            return part
        try:
            return os.pread(self._file, len(part), part.start)
        except OSError:
            return b""
