"""What a verb writes for people: names and symbols of others cannot command the terminal that shows it."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import IO, Any, cast

from asrkit.errors import printable_lines


class _Filtered:
    """A stream of text that escapes what is not printable; `unfiltered` is the stream as it was."""

    def __init__(self, stream: IO[str]) -> None:
        self.unfiltered = stream

    def write(self, text: str) -> int:
        return self.unfiltered.write(printable_lines(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Filter standard output, which is UTF-8 in any locale, and standard error while the block lasts."""
    streams = sys.stdout, sys.stderr
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout, sys.stderr = (cast(IO[str], _Filtered(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
