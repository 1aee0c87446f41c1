"""Locks: only one run at a time writes a directory or a single file.

A lock is a lock of the kernel (flock) on the file `.asrkit.lock` in the directory, or on `.NAME.asrkit.lock` beside the
file NAME. The worker processes of a run hold the lock, too (`Inheritance`). It ends when the last of these processes
ends, for whatever reason. The file names the owner of the lock. It is removed with the lock.

Some file systems have no kernel locks. There a file `.asrkit.lock.owner` is the lock. If its owner is killed, the file
stays. If the owner was a process of this machine, the next run finds out that it has ended, and takes the lock. If it
ran on another machine, this cannot be found out, and the message names the file to remove.

Reading needs no lock. Files are replaced as a whole, and a step removes its stamp first and writes it last.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from asrkit.errors import InUseError, location
from asrkit.io.atomic import LOCK_NAME, expect_replaceable, guarded, remove_leftovers, shortened
from asrkit.io.files import Naming, read_bytes
from asrkit.io.json_text import json_text, read_json
from asrkit.io.processes import HOST, is_running, machine, start_time

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
_SECONDS_BETWEEN_TRIES = 0.1
_SECONDS_TO_END = 30.0  # that the workers of a killed run may need to end
_SECONDS_TO_WRITE = 1.0  # that a new owner may need to write its name


@dataclass(frozen=True)
class _Owner:
    """The owner of a lock. `machine` and `start` distinguish the process from others with the same number."""

    process: int
    start: str
    host: str
    machine: str
    since: str
    verb: str

    @classmethod
    def me(cls, verb: str) -> _Owner:
        process = os.getpid()
        return cls(process, start_time(process), HOST, machine(), time.strftime("%Y-%m-%d %H:%M:%S"), verb)

    @classmethod
    def read(cls, path: Path) -> _Owner | None:
        """The owner that a file names; None if the file cannot be read or names none."""
        try:
            owner = cls(**read_json(path))
        except (OSError, ValueError, TypeError):
            return None
        texts = (owner.start, owner.host, owner.machine, owner.since, owner.verb)
        return owner if isinstance(owner.process, int) and all(isinstance(text, str) for text in texts) else None

    def has_ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self.machine == machine() and not is_running(self.process, self.start)

    def describe(self) -> str:
        return f"in use by process {self.process} on {self.host} since {self.since} ({self.verb})"

    def remedy(self) -> str:
        if self.machine != machine():
            return "wait for it to end, or end it there"
        if self.process == os.getpid():
            return "that is this process; wait for that call to return"
        return f"wait for it to end, or end it (kill {self.process})"


@dataclass
class _Held:
    """A lock that a thread of this process holds. `depth`: how many nested blocks of the thread hold it."""

    descriptor: int
    thread: int
    path: Path
    content: bytes
    depth: int = 1


_held: dict[tuple[int, int], _Held] = {}  # by device and inode of the lock's file
os.register_at_fork(after_in_child=_held.clear)  # a child inherits the open file, but not the lock


@contextlib.contextmanager
def lock_dir(directory: str | Path, verb: str) -> Iterator[None]:
    """Hold the lock of `directory` during the block, so that no other run writes there.

    A missing directory is made, and removed again at the end if it is empty. Temporary files of killed runs are
    removed. A thread that holds the lock may take it again. `verb` is the command to name in the messages of other
    runs.

    Raises:
        InUseError: another process or thread holds the lock.
        OSError: the directory cannot be written.
    """
    directory = Path(directory)
    with _made(directory), _locked(directory / LOCK_NAME, directory, verb, wait=False):
        remove_leftovers(directory)
        real = Path(os.path.realpath(directory))
        with contextlib.suppress(OSError):  # the parent directory may not be readable
            remove_leftovers(real.parent, real.name)
        yield


@contextlib.contextmanager
def lock_file(path: str | Path, verb: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the file `path` and its stamp during the block; otherwise like `lock_dir`.

    With `wait`, wait until the lock is free. Raises InUseError (only without `wait`) and OSError as `lock_dir`, and
    OSError if `path` is not a regular file.
    """
    path = Path(path)
    expect_replaceable(path)
    with _made(path.parent), _locked(_lock_of(path), path, verb, wait):
        for name in (path.name, f".{path.name}.stamp"):
            remove_leftovers(path.parent, name)
        yield


def expect_free(*paths: Path) -> None:
    """Raise InUseError if another run holds the lock of one of these directories or files.

    The locks and the temporary files of killed runs are removed.
    """
    for path in paths:
        lock, take = (path / LOCK_NAME, lock_dir) if path.is_dir() else (_lock_of(path), lock_file)
        if lock.exists():
            with contextlib.suppress(OSError), take(path, "reading"):
                pass


def remove_dead_locks(*paths: Path) -> None:
    """Remove the locks and temporary files of killed runs. Locks that a process holds stay."""
    for path in paths:
        with contextlib.suppress(InUseError):
            expect_free(path)


def is_there(file: Path) -> bool:
    """Whether a file that another run makes exists. Raises InUseError if it is missing and a run may be making it."""
    if not file.is_file():
        expect_free(file, file.parent, file.parent.parent)
    return file.is_file()


class Inheritance:
    """Passes the locks of this process to a worker process.

    It is sent to the worker at its start. The locks then last until the worker, too, has ended.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _keep_open, tuple(reduction.DupFd(held.descriptor) for held in _held.values())


@dataclass(frozen=True)
class LockTokens:
    """The locks of a process, for other machines that work for it. They cannot hold the locks themselves.

    `contents`: the content of the file of each lock, which names the owner.
    """

    contents: Mapping[Path, bytes]

    @classmethod
    def held(cls) -> LockTokens:
        """The locks of this process."""
        return cls({held.path: held.content for held in _held.values()})

    @contextlib.contextmanager
    def respected(self) -> Iterator[None]:
        """In the block, this thread replaces files only while the process still holds all these locks.

        Raises InUseError if another process holds one, if one is gone, or if this machine does not see it.
        """
        self._check()
        with guarded(self._check):
            yield

    def _check(self) -> None:
        for path, content in self.contents.items():
            if content not in (_content(path), _content(_owner_file(path))):
                raise InUseError(
                    f"{location(path.parent)}no lock of the run that sent this work to {HOST}: the run has ended, or "
                    "this machine does not see the directory; use a file system that all machines share"
                )


def _content(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except OSError:
        return None


def _keep_open(*duplicates: Any) -> list[int]:
    return [duplicate.detach() for duplicate in duplicates]


def _lock_of(file: Path) -> Path:
    return file.parent / f".{shortened(file.name)}{LOCK_NAME}"


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make a directory and its parents. At the end of the block remove those that were made and are empty."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for each in missing:
                each.rmdir()


@contextlib.contextmanager
def _locked(path: Path, what: Path, verb: str, wait: bool) -> Iterator[None]:
    key, held = _acquire(path, what, verb, wait)
    try:
        yield
    finally:
        held.depth -= 1
        if not held.depth:
            del _held[key]
            _release(path, key, held.descriptor)


def _acquire(path: Path, what: Path, verb: str, wait: bool) -> tuple[tuple[int, int], _Held]:
    began, is_told = time.monotonic(), False
    while True:
        descriptor = _open(path)
        key = _key(descriptor)
        held = _held.get(key)
        if held is not None and held.thread == threading.get_ident():
            os.close(descriptor)
            held.depth += 1
            return key, held
        try:
            content = (json_text(asdict(_Owner.me(verb))) + "\n").encode()
            if _try(descriptor, path, content):
                if _is_at(path, key):
                    _held[key] = _Held(descriptor, threading.get_ident(), Path(os.path.abspath(path)), content)
                    return key, _held[key]
                _disown(path)
        finally:
            if key not in _held or _held[key].descriptor != descriptor:
                os.close(descriptor)
        fault, patience = _fault(path, what)
        if not wait and time.monotonic() - began >= patience:
            raise InUseError(fault)
        if wait and not is_told:
            print(f"{fault.partition(';')[0]}; waiting for it to end", file=sys.stderr, flush=True)
            is_told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _open(path: Path) -> int:
    """Open the lock's file. A link is refused: whoever made it could have any of our files overwritten."""
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR, 0o666)
    except PermissionError:
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent)) from None
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # made by another user


def _key(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _is_at(path: Path, key: tuple[int, int]) -> bool:
    """Whether `path` is still the file with this device and inode; the previous owner may have removed it.

    The file is opened for this, because network file systems cache what they know about names.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _key(descriptor) == key
    finally:
        os.close(descriptor)


def _try(descriptor: int, path: Path, content: bytes) -> bool:
    """Take the lock of an open file and write its owner, `content`, into it; False if another process holds it."""
    try:
        with Naming(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return _become_owner(_owner_file(path), content)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
    except OSError as error:  # on a full disk, for example; the lock is held nevertheless
        if error.errno == errno.EINVAL:  # not open for writing: another user left it; it has to be made again
            path.unlink(missing_ok=True)
            return False
    # Other machines may have no kernel locks on this file system.
    return not _owner_file(path).exists() or _become_owner(_owner_file(path), content)


def _owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _become_owner(file: Path, content: bytes) -> bool:
    """Make the file that is the lock, and replace one whose owner has ended; False if another process was faster."""
    owner = _Owner.read(file)
    if owner is not None and owner.has_ended():
        taken = file.with_name(f"{file.name}.{HOST}-{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(file, taken)
            if _Owner.read(taken) != owner:  # another process was faster: this is its file
                os.rename(taken, file)
                return False
            taken.unlink()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        with Naming(file):
            os.write(descriptor, content)
    except OSError:
        file.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def _disown(path: Path) -> None:
    """Remove the file that is the lock, if this process owns it."""
    owner = _Owner.read(_owner_file(path))
    if owner is not None and (owner.process, owner.machine) == (os.getpid(), machine()):
        _owner_file(path).unlink(missing_ok=True)


def _fault(path: Path, what: Path) -> tuple[str, float]:
    """A message that names the holder of the lock, and for how many seconds to try again before it is raised."""
    file = _owner_file(path) if _owner_file(path).exists() else path
    owner = _Owner.read(file)
    if owner is None:
        remedy = f"wait for it to end; when none runs, remove {file}"
        return f"{location(what)}in use by another process; {remedy}", _SECONDS_TO_WRITE
    if file == path and owner.has_ended():
        return (
            f"{location(what)}process {owner.process} ({owner.verb}) has ended, but a process that it started still "
            "writes here; end that process",
            _SECONDS_TO_END,
        )
    remedy = owner.remedy()
    if file != path:
        remedy += f"; if it was killed, remove {file}"
    return f"{location(what)}{owner.describe()}; {remedy}", 0.0


def _release(path: Path, key: tuple[int, int], descriptor: int) -> None:
    with contextlib.suppress(OSError):  # the lock may already be gone
        _disown(path)
        if _is_at(path, key):
            path.unlink()
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing the file would not end it while a worker has it open
    os.close(descriptor)
