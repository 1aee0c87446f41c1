"""Lines that tell how work goes on: they go to standard error, unless all is to be quiet, and to the log of a run."""

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
    """A block in which told lines leave standard error alone, if that is wanted. Warnings and errors stay."""
    global _is_quiet
    before, _is_quiet = _is_quiet, is_wanted
    try:
        yield
    finally:
        _is_quiet = before


def is_quiet() -> bool:
    return _is_quiet


def tell(line: str) -> None:
    """Tell a line. Raises OSError when a log cannot be written."""
    if not _is_quiet:
        print(line, file=sys.stderr, flush=True)
    log(line)


def log(line: str) -> None:
    """Put a line into the logs alone, with the local time before it."""
    for path in _logs:
        with writer(NamedFile(path, "ab"), "w") as stream:
            stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
    """A block whose told lines are also added to the end of a file."""
    _logs.append(path)
    try:
        yield
    finally:
        _logs.remove(path)
