"""Files whose errors say which file it was. All files of asrkit are opened here.

The system names a file that it cannot open, rename or remove, but not one that it cannot read, write or sync.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, overload

_WRITE_BUFFER = 2**17  # bytes


class Naming:
    """A block about one file, whose name is `shown`: errors of the system that name none name this one.

    `error` is the first of them.
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
    """A file that is read or written without a buffer; `naming` has its name in errors, and the first of them.

    Libraries that write may make errors of their own of that one.
    """

    def __init__(self, path: str | Path | int, mode: str, shown: str | Path | None = None) -> None:
        """`path` may be the number of an open file, which stays open. `shown`: the name in errors."""
        self.naming = Naming(str(path) if shown is None else shown)
        with self.naming:
            opened = path if isinstance(path, int) else os.fspath(path)
            super().__init__(opened, mode, closefd=not isinstance(path, int))

    def read(self, size: int | None = -1) -> bytes:
        with self.naming:
            return super().read(size)

    def readall(self) -> bytes:
        with self.naming:
            return super().readall()

    def readinto(self, buffer: Any) -> int:
        with self.naming:
            return super().readinto(buffer)

    def write(self, content: Any) -> int:
        with self.naming:
            return super().write(content)

    def truncate(self, size: int | None = None) -> int:
        with self.naming:
            return super().truncate(size)

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        with self.naming:
            os.fsync(self.fileno())

    def close(self) -> None:
        with self.naming:
            super().close()


def open_file(path: str | Path | int, shown: str | Path | None = None) -> io.BufferedReader:
    """Open a file for reading; arguments are as for NamedFile."""
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
