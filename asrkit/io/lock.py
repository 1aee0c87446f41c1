"""Locks: one run at a time writes a directory, or a file that stands alone.

A lock is the kernel's (flock) on a file `.asrkit.lock` in the directory, or `.NAME.asrkit.lock` beside the file NAME.
It ends when the last process that has it ends, however it ends: the worker processes of a run have it, too
(`Inheritance`). The file says whose it is, and goes away with the lock.

Where the file system has no such locks, a file `.asrkit.lock.owner` stands for one. It stays when its owner is killed.
An owner that was a process of this machine, since it last started, is then known to be gone; of another one's that
cannot be known, and the message says which file to remove.

Reading needs no lock: files are replaced whole, and a step's stamp is taken away first and written last.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from asrkit.errors import InUseError, location
from asrkit.io.atomic import LOCK_NAME, expect_replaceable, remove_leftovers, shortened
from asrkit.io.files import Naming
from asrkit.io.json_text import json_text, read_json
from asrkit.io.processes import HOST, is_running, machine, start_time

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)
_SECONDS_BETWEEN_TRIES = 0.1
_SECONDS_TO_END = 30.0  # for the workers of a run that was killed
_SECONDS_TO_WRITE = 1.0  # for the name of an owner that has just become one


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
        """The owner that a file names; None when it names none."""
        try:
            owner = cls(**read_json(path))
        except (OSError, ValueError, TypeError):
            return None
        texts = (owner.start, owner.host, owner.machine, owner.since, owner.verb)
        return owner if isinstance(owner.process, int) and all(isinstance(text, str) for text in texts) else None

    def has_ended(self) -> bool:
        """Whether the process is known to run no longer."""
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
    """A lock that a thread of this process has: its open file, and how many calls of the thread are within it."""

    descriptor: int
    thread: int
    depth: int = 1


_held: dict[tuple[int, int], _Held] = {}  # by device and inode of the lock's file
os.register_at_fork(after_in_child=_held.clear)  # a lock is its parent's, though the open file is inherited


@contextlib.contextmanager
def lock_dir(directory: str | Path, verb: str) -> Iterator[None]:
    """Be the only one who writes `directory` while the block lasts; it is made when missing, and left when not empty.

    `verb` is what others are told. A thread may take a lock that it has once more. What killed runs left there under
    temporary names is removed.

    Raises:
        InUseError: another process, or another thread, has the lock.
        OSError: the directory cannot be written.
    """
    directory = Path(directory)
    with _made(directory), _locked(directory / LOCK_NAME, directory, verb, wait=False):
        remove_leftovers(directory)
        real = Path(os.path.realpath(directory))
        with contextlib.suppress(OSError):  # the directory above may be one that cannot be read
            remove_leftovers(real.parent, real.name)
        yield


@contextlib.contextmanager
def lock_file(path: str | Path, verb: str, *, wait: bool = False) -> Iterator[None]:
    """Be the only one who writes the file `path`, and its stamp, while the block lasts; otherwise as lock_dir.

    `wait`: for as long as another has the lock, rather than raise InUseError. Raises OSError also for what is no file.
    """
    path = Path(path)
    expect_replaceable(path)
    with _made(path.parent), _locked(_lock_of(path), path, verb, wait):
        for name in (path.name, f".{path.name}.stamp"):
            remove_leftovers(path.parent, name)
        yield


def expect_free(*paths: Path) -> None:
    """Raise InUseError where another run writes one of these directories or files.

    The lock of a run that was killed is removed, and what else lock_dir or lock_file removes.
    """
    for path in paths:
        lock, take = (path / LOCK_NAME, lock_dir) if path.is_dir() else (_lock_of(path), lock_file)
        if lock.exists():
            with contextlib.suppress(OSError), take(path, "reading"):
                pass


def remove_dead_locks(*paths: Path) -> None:
    """Remove what killed runs left of locks and temporary files; a lock that a process has stays."""
    for path in paths:
        with contextlib.suppress(InUseError):
            expect_free(path)


def is_there(file: Path) -> bool:
    """Whether a file that another run makes is there. Raises InUseError where it is not, but one may be making it."""
    if not file.is_file():
        expect_free(file, file.parent, file.parent.parent)
    return file.is_file()


class Inheritance:
    """The locks of this process, for a worker process: sent to it as it starts, they last until it, too, has ended."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _keep_open, tuple(reduction.DupFd(held.descriptor) for held in _held.values())


def _keep_open(*duplicates: Any) -> list[int]:
    return [duplicate.detach() for duplicate in duplicates]


def _lock_of(file: Path) -> Path:
    return file.parent / f".{shortened(file.name)}{LOCK_NAME}"


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Make a directory, and those above it; take away again those that are empty at the end."""
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
            if _try(descriptor, path, verb):
                if _is_at(path, key):
                    _held[key] = _Held(descriptor, threading.get_ident())
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
    """Open the lock's file. A link is refused: it would let who made it have any file of ours overwritten."""
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_RDWR, 0o666)
    except PermissionError:
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path.parent)) from None
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)  # another user's


def _key(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _is_at(path: Path, key: tuple[int, int]) -> bool:
    """Whether `path` is that very file; its owner before may have removed it. Opened, as network file systems keep
    what they know of names for a while."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _key(descriptor) == key
    finally:
        os.close(descriptor)


def _try(descriptor: int, path: Path, verb: str) -> bool:
    """Take the lock of an open file, and write whose it is; False when another has it."""
    content = (json_text(asdict(_Owner.me(verb))) + "\n").encode()
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
    except OSError as error:  # with a full disk, say, the lock holds all the same
        if error.errno == errno.EINVAL:  # not open for writing: left by another user, and to be made anew
            path.unlink(missing_ok=True)
            return False
    # There may be machines that have no locks of the kernel here.
    return not _owner_file(path).exists() or _become_owner(_owner_file(path), content)


def _owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _become_owner(file: Path, content: bytes) -> bool:
    """Make the file that stands for a lock, in place of one whose owner has ended."""
    owner = _Owner.read(file)
    if owner is not None and owner.has_ended():
        taken = file.with_name(f"{file.name}.{HOST}-{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(file, taken)
            if _Owner.read(taken) != owner:  # another was quicker, and this is its own
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
    """Remove the file that stands for a lock, if it is this process's."""
    owner = _Owner.read(_owner_file(path))
    if owner is not None and (owner.process, owner.machine) == (os.getpid(), machine()):
        _owner_file(path).unlink(missing_ok=True)


def _fault(path: Path, what: Path) -> tuple[str, float]:
    """Who has the lock, and for how many seconds that may change by itself."""
    file = _owner_file(path) if _owner_file(path).exists() else path
    owner = _Owner.read(file)
    if owner is None:
        remedy = f"wait for it to end; when none runs, remove {file}"
        return f"{location(what)}in use by another process; {remedy}", _SECONDS_TO_WRITE
    if file == path and owner.has_ended():
        return (
            f"{location(what)}process {owner.process} ({owner.verb}) has ended, but one that it started still writes "
            "here; end it",
            _SECONDS_TO_END,
        )
    remedy = owner.remedy()
    if file != path:
        remedy += f"; if it was killed, remove {file}"
    return f"{location(what)}{owner.describe()}; {remedy}", 0.0


def _release(path: Path, key: tuple[int, int], descriptor: int) -> None:
    with contextlib.suppress(OSError):  # a lock that is not there any more is no loss
        _disown(path)
        if _is_at(path, key):
            path.unlink()
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing ends it only where no worker has it
    os.close(descriptor)
