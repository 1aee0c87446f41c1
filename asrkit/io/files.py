"""Opens files whose errors name the file. asrkit opens all its files here.

The system's error names a file that cannot be opened, renamed or removed. It does not name a file that cannot be read,
written or synced.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, overload

_WRITE_BUFFER = 2**17  # bytes


class Naming:
    """A `with` block that works on one file. System errors in it that name no file get the name `shown`.

    `error` is the first of these errors, or None.
    """

    def __init__(self, shown: str | Path) -> None:
        self.shown = os.fspath(shown)
        self.error: OSError | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            if error.filename is None:
                error.filename = self.shown
            self.error = self.error or error


class NamedFile(io.FileIO):
    """A file without a buffer. Its errors are OSErrors that name it.

    `naming.error` keeps the first error, because libraries may replace it by errors of their own.
    """

    def __init__(self, path: str | Path | int, mode: str, shown: str | Path | None = None) -> None:
        """Open `path`, or use the file descriptor `path`, which stays open. `shown` is the name in errors."""
        self.naming = Naming(str(path) if shown is None else shown)
        with self.naming:
            opened = path if isinstance(path, int) else os.fspath(path)
            super().__init__(opened, mode, closefd=not isinstance(path, int))

    def read(self, size: int | None = -1) -> bytes:
        """Read at most `size` bytes, or all for -1."""
        with self.naming:
            return super().read(size)

    def readall(self) -> bytes:
        """Read all bytes up to the end."""
        with self.naming:
            return super().readall()

    def readinto(self, buffer: Any) -> int:
        """Read bytes into `buffer`; returns their number."""
        with self.naming:
            return super().readinto(buffer)

    def write(self, content: Any) -> int:
        """Write bytes; returns the number of bytes that were written, which may be less than asked for."""
        with self.naming:
            return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        """Cut the file to `size` bytes, or at its position; returns the new size."""
        with self.naming:
            return super().truncate(size)

    def sync(self) -> None:
        """Wait until all written bytes are on the disk."""
        with self.naming:
            os.fsync(self.fileno())

    def close(self) -> None:
        """Close the file."""
        with self.naming:
            super().close()


def open_file(path: str | Path | int, shown: str | Path | None = None) -> io.BufferedReader:
    """Open a file for reading, with a buffer. Arguments as for `NamedFile`. Raises OSError if it cannot be opened."""
    return io.BufferedReader(NamedFile(path, "rb", shown))


@overload
def writer(file: NamedFile, mode: Literal["w"]) -> IO[str]: ...
@overload
def writer(file: NamedFile, mode: Literal["wb"]) -> BinaryIO: ...
@overload
def writer(file: NamedFile, mode: Literal["w", "wb"]) -> IO[Any]: ...
def writer(file: NamedFile, mode: Literal["w", "wb"]) -> IO[Any]:
    """A buffered stream that writes to `file`: bytes for "wb", UTF-8 text with newlines as written for "w"."""
    buffered = io.BufferedWriter(file, _WRITE_BUFFER)
    return io.TextIOWrapper(buffered, encoding="utf-8", newline="\n") if mode == "w" else buffered


def read_bytes(path: str | Path) -> bytes:
    """The content of a file. Raises OSError if it cannot be read."""
    with open_file(path) as stream:
        return stream.read()
