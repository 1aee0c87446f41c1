"""Files and directories that appear whole or not at all: written under a temporary name, synced, renamed."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Literal, overload

from asrkit.io.numbers import parse_whole

_MAX_PROCESS = 2**31 - 1


@overload
def atomic_write(path: str | Path, mode: Literal["w"] = "w") -> AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(path: str | Path, mode: Literal["wb"]) -> AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def atomic_write(path: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file that takes `path`'s place when the block ends without an exception.

    `mode` is "w" (UTF-8 text, newlines as written) or "wb". The parent directory is made when missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    encoding, newline = ("utf-8", "\n") if mode == "w" else (None, None)
    try:
        with open(temporary, mode, encoding=encoding, newline=newline) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary directory that takes `path`'s place when the block ends without an exception.

    What stood at `path` is removed just before; a reader sees the old tree, none, or the whole new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


_MARK = f".tmp-{os.uname().nodename}-"  # in temporary names, between that of the file and the writer's process
_cleaned: set[str] = set()


def _temporary(path: Path) -> Path:
    """A name beside `path` that is free.

    The first time that this process writes in a directory, what killed processes of this machine left there under such
    names is removed. Only then is the directory listed: with many files, listing takes longer than writing.
    """
    directory = os.path.abspath(path.parent)
    if directory not in _cleaned:
        for leftover in path.parent.glob(f".*{glob.escape(_MARK)}*"):
            owner = parse_whole(leftover.name.rpartition("-")[2], high=_MAX_PROCESS)
            if owner not in (None, os.getpid()) and not _is_running(owner):
                _remove(leftover)
        _cleaned.add(directory)
    temporary = path.with_name(f".{path.name}{_MARK}{os.getpid()}")
    _remove(temporary)  # of an earlier write of ours that could not clean up
    return temporary


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or no number that a process has
    return True
