"""Text output for people. Foreign names and symbols in it cannot control the terminal.

Errors of the standard streams name the stream, so that they are not mistaken for errors of a file.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, Any, cast

from asrkit.errors import printable_lines
from asrkit.io.files import NamedFile, Naming, open_file, writer

STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR = "standard input", "standard output", "standard error"


def open_closed_streams() -> None:
    """Open standard streams that are closed. Otherwise the next files that are opened would take their numbers.

    Reading from and writing to such a stream fails, as it should. Only errors of standard error are ignored, since
    nobody could read a message.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the new file gets the lowest free number, which is this one
    sys.stdin = sys.stdin or io.TextIOWrapper(open_file(0, STANDARD_INPUT), encoding="utf-8")
    sys.stdout = sys.stdout or writer(NamedFile(1, "wb", STANDARD_OUTPUT), "w")
    sys.stderr = sys.stderr or writer(NamedFile(2, "wb", STANDARD_ERROR), "w")


class _Filtered:
    """A text stream that escapes unprintable characters. `unfiltered` is the original stream."""

    def __init__(self, stream: IO[str], name: str) -> None:
        self.unfiltered, self._name = stream, name

    def write(self, text: str) -> int:
        with Naming(self._name):
            return self.unfiltered.write(printable_lines(text))

    def flush(self) -> None:
        with Naming(self._name):
            self.unfiltered.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Filter standard output and standard error during a `with` block. Standard output is UTF-8 in any locale."""
    streams = sys.stdout, sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout = cast(IO[str], _Filtered(sys.stdout, STANDARD_OUTPUT))
    sys.stderr = cast(IO[str], _Filtered(sys.stderr, STANDARD_ERROR))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
