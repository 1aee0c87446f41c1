"""Files whose errors say which file it was. All files of asrkit are opened here.

The system names a file that it cannot open, rename or remove, but not one that it cannot read, write or sync.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, overload

_WRITE_BUFFER = 2**17  # bytes


@contextlib.contextmanager
def naming(name: str | Path) -> Iterator[None]:
    """A block about one file: errors of the system that name none name this one."""
    try:
        yield
    except OSError as error:
        _name(error, name)
        raise


def _name(error: OSError, name: str | Path) -> None:
    if error.filename is None:
        error.filename = os.fspath(name)


class NamedFile(io.FileIO):
    """A file that is read or written without a buffer.

    Attributes:
        shown: its name in errors.
        error: the first of them; libraries that write make other errors of it.
    """

    def __init__(self, path: str | Path | int, mode: str, shown: str | Path | None = None) -> None:
        self.error: OSError | None = None
        self.shown = shown if shown is not None else str(path)
        with self._naming():
            super().__init__(
                path if isinstance(path, int) else os.fspath(path), mode, closefd=not isinstance(path, int)
            )

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _name(error, self.shown)
            self.error = self.error or error
            raise

    def read(self, size: int | None = -1) -> bytes:
        with self._naming():
            return super().read(size)

    def readall(self) -> bytes:
        with self._naming():
            return super().readall()

    def readinto(self, buffer: Any) -> int:
        with self._naming():
            return super().readinto(buffer)

    def write(self, content: Any) -> int:
        with self._naming():
            return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        with self._naming():
            return super().truncate(size)

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        with self._naming():
            os.fsync(self.fileno())

    def close(self) -> None:
        with self._naming():
            super().close()


def open_file(path: str | Path | int, shown: str | Path | None = None) -> io.BufferedReader:
    """Open a file for reading, by its path or by its number, which stays open; `shown` is its name in errors."""
    return io.BufferedReader(NamedFile(path, "rb", shown))


@overload
def writer(file: NamedFile, mode: Literal["w"]) -> IO[str]: ...
@overload
def writer(file: NamedFile, mode: Literal["wb"]) -> BinaryIO: ...
@overload
def writer(file: NamedFile, mode: Literal["w", "wb"]) -> IO[Any]: ...
def writer(file: NamedFile, mode: Literal["w", "wb"]) -> IO[Any]:
    """A buffer for what is written to a file; for "w" it takes text, which is UTF-8, with its newlines as they are."""
    buffered = io.BufferedWriter(file, _WRITE_BUFFER)
    return io.TextIOWrapper(buffered, encoding="utf-8", newline="\n") if mode == "w" else buffered


def read_bytes(path: str | Path) -> bytes:
    """All that is in a file."""
    with open_file(path) as stream:
        return stream.read()
