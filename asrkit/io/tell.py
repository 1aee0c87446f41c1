"""Reports progress: lines on standard error (unless `--quiet` is given) and in the log of a run."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from asrkit.io.files import NamedFile, writer

_is_quiet = False
_logs: list[Path] = []


@contextlib.contextmanager
def quiet(is_wanted: bool) -> Iterator[None]:
    """If `is_wanted`, write no progress to standard error during the block. Warnings and errors still appear."""
    global _is_quiet
    before, _is_quiet = _is_quiet, is_wanted
    try:
        yield
    finally:
        _is_quiet = before


def be_quiet() -> None:
    """From now on told lines leave standard error alone: those of a process that another one speaks for."""
    global _is_quiet
    _is_quiet = True


def is_quiet() -> bool:
    """Whether progress is not written to standard error at the moment."""
    return _is_quiet


def tell(line: str) -> None:
    """Write a line to standard error and to the logs. Raises OSError if a log cannot be written."""
    if not _is_quiet:
        print(line, file=sys.stderr, flush=True)
    log(line)


def log(line: str) -> None:
    """Write a line to the logs only, after the local time. Raises OSError if a log cannot be written."""
    for path in _logs:
        with writer(NamedFile(path, "ab"), "w") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """During the block, append all progress lines to the file `path`, too."""
    _logs.append(path)
    try:
        yield
    finally:
        _logs.remove(path)
