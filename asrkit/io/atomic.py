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


def _temporary(path: Path) -> Path:
    """A name beside `path` that is free. What killed processes of this machine left under such names is removed."""
    prefix = f".{path.name}.tmp-{os.uname().nodename}-"
    for leftover in path.parent.glob(f"{glob.escape(prefix)}*"):
        owner = leftover.name.removeprefix(prefix)
        if owner.isdigit() and not _is_running(int(owner)):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)
    return path.with_name(f"{prefix}{os.getpid()}")


def _is_running(process_id: int) -> bool:
    if process_id == os.getpid():
        return False  # an earlier write of ours that could not clean up
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True
