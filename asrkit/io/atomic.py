"""Writes files and directories that appear complete or not at all.

They are written under a temporary name, synced to the disk and renamed. Errors of the system name the final file or
directory, even if a library replaced the error on the way.

A temporary name identifies its process: `.NAME.tmp-HOST-PROCESS-START-RANDOM`. So no two writers have the same name,
and `remove_leftovers` can remove the files of processes that have ended.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, overload

from asrkit.io.files import NamedFile, writer
from asrkit.io.numbers import parse_whole
from asrkit.io.processes import HOST, is_running, start_time

LOCK_NAME = ".asrkit.lock"
LOCK_NAMES = (LOCK_NAME, f"{LOCK_NAME}.owner")  # the files of a lock
_NAME_BYTES = 100  # of a file's name are used in a temporary name, so that it does not get too long


@overload
def atomic_write(path: str | Path, mode: Literal["w"] = "w") -> AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(path: str | Path, mode: Literal["wb"]) -> AbstractContextManager[IO[bytes]]: ...
@contextlib.contextmanager
def atomic_write(path: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """Open a file for writing. It replaces `path` if the block ends without an exception.

    `mode` is "w" (UTF-8 text, newlines as written) or "wb" (bytes). A missing parent directory is made.

    Raises OSError, which names `path`, if the file cannot be written.
    """
    path = Path(path)
    expect_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    with _shown_as(path, temporary):
        file = NamedFile(temporary, "wb", path)
        try:
            with writer(file, mode) as stream:
                yield stream
                stream.flush()
                file.sync()
                written = Written.of(stream)
            _guard.check()
            os.replace(temporary, path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if file.naming.error is not None and isinstance(error, Exception):
                raise file.naming.error from None
            raise
    for record in _recorder.records:
        record[Path(os.path.abspath(path))] = written


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Make an empty temporary directory. It replaces `path` if the block ends without an exception.

    A reader sees the old tree, no tree for a moment, or the complete new one. A lock in the old tree (io/lock.py) moves
    to the new one. If `path` is a symbolic link, its target is replaced.

    Raises OSError, which names `path` or a file below it, if that cannot be written.
    """
    after, path = Path(os.path.abspath(path)), Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _temporary(path), _temporary(path)
    with _shown_as(after, temporary, old):
        temporary.mkdir()
        try:
            yield temporary
            _guard.check()
            if path.exists():
                os.replace(path, old)
                _move_locks(old, temporary)
            os.replace(temporary, path)
        except BaseException:
            try:
                if old.exists() and not path.exists():
                    _move_locks(temporary, old)
                    os.replace(old, path)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
    shutil.rmtree(old, ignore_errors=True)
    for record in _recorder.records:
        for file in [file for file in record if file.is_relative_to(temporary)]:
            record[after / file.relative_to(temporary)] = record.pop(file)


def _move_locks(source: Path, target: Path) -> None:
    """Move the files of a directory's lock to another directory. The lock itself stays in force."""
    for name in LOCK_NAMES:
        with contextlib.suppress(FileNotFoundError):
            os.replace(source / name, target / name)


@contextlib.contextmanager
def _shown_as(path: Path, *temporaries: Path) -> Iterator[None]:
    """In the errors of a block, replace the temporary paths by `path` or the paths below it."""
    try:
        yield
    except OSError as error:
        for attribute in ("filename", "filename2"):
            name = getattr(error, attribute)
            for temporary in temporaries:
                if isinstance(name, str) and Path(name).is_relative_to(temporary):
                    setattr(error, attribute, str(path / Path(name).relative_to(temporary)))
        raise


@dataclass(frozen=True)
class Written:
    """Identifies a file that was written, so that a file of another process in its place is noticed.

    `size` is in bytes. `time` is that of the last change, in nanoseconds.
    """

    size: int
    time: int
    inode: int

    @classmethod
    def of(cls, stream: IO[Any]) -> Written:
        """Identifies the open file `stream`."""
        status = os.fstat(stream.fileno())
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class _Guard(threading.local):
    """The check that a thread makes before it replaces a file or directory."""

    def __init__(self) -> None:
        self.check: Callable[[], None] = lambda: None


_guard = _Guard()


@contextlib.contextmanager
def guarded(check: Callable[[], None]) -> Iterator[None]:
    """In the block, call `check()` before this thread replaces a file or directory; its error stops the replacement."""
    before, _guard.check = _guard.check, check
    try:
        yield
    finally:
        _guard.check = before


class _Recorder(threading.local):
    """The records of written files that a thread keeps at the moment."""

    def __init__(self) -> None:
        self.records: list[dict[Path, Written]] = []


_recorder = _Recorder()


@contextlib.contextmanager
def recording() -> Iterator[dict[Path, Written]]:
    """Record the files that this thread writes with `atomic_write` in the block, by their absolute paths."""
    record: dict[Path, Written] = {}
    with _records([*_recorder.records, record]):
        yield record


def not_recording() -> AbstractContextManager[None]:
    """Leave the files that this thread writes in the block out of all records."""
    return _records([])


@contextlib.contextmanager
def _records(records: list[dict[Path, Written]]) -> Iterator[None]:
    before, _recorder.records = _recorder.records, records
    try:
        yield
    finally:
        _recorder.records = before


def remove_leftovers(directory: Path, name: str = "") -> None:
    """Remove the temporary files and directories that killed processes of this machine left in `directory`.

    With `name`, only those of this name are removed. The caller must hold the lock of the directory or file.
    """
    begin = f".{shortened(name)}.tmp-{HOST}-" if name else "."
    owner = re.compile(rf"\.tmp-{re.escape(HOST)}-([0-9]+)-([0-9]+)-[0-9a-f]+$")
    with os.scandir(directory) as entries:
        leftovers = [
            entry
            for entry in entries
            if entry.name.startswith(begin)
            and (match := owner.search(entry.name))
            and (process_id := parse_whole(match[1])) is not None
            and not is_running(process_id, match[2])
        ]
    for entry in leftovers:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """A new temporary name in the directory of `path`."""
    process_id = os.getpid()
    mark = f".tmp-{HOST}-{process_id}-{_start_time(process_id)}-{secrets.token_hex(4)}"
    return path.with_name(f".{shortened(path.name)}{mark}")


_start_time = functools.lru_cache(maxsize=1)(start_time)  # by process, because a process may fork


def expect_replaceable(path: Path) -> None:
    """Check that `path` is free or a regular file, which may be replaced.

    A user who may write in /dev could otherwise replace /dev/null for all programs.

    Raises:
        IsADirectoryError: it is a directory.
        OSError: it is a device, a pipe or the name of an open file.
    """
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode) and not os.readlink(path).startswith("/proc/"):
            status = os.stat(path)
    except OSError:
        return  # nothing is there
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file, and is not replaced", str(path))


def shortened(name: str) -> str:
    """The first 100 bytes of a file's name, for use in another file name."""
    return os.fsdecode(os.fsencode(name)[:_NAME_BYTES])
