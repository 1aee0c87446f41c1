"""The exceptions that asrkit raises on purpose.

Each message is one line per fault: where it is, what was found, what was expected and the remedy. The
command line prints these lines without a traceback and exits with 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


class AsrkitError(Exception):
    """Base of all expected errors. `str()` gives one line per fault."""


class DataError(AsrkitError):
    """A fault in a data directory, corpus, table or archive."""


class ConfigError(AsrkitError):
    """A fault in a configuration file or an option's value."""


class AudioError(AsrkitError):
    """An audio file that cannot be decoded, or is not what its header says."""


class ModelError(AsrkitError):
    """A model, checkpoint or experiment directory that cannot be used."""


class InUseError(AsrkitError):
    """What is to be written is being written by another run."""


class MissingPackageError(AsrkitError):
    """A package of one of asrkit's extras that is not installed, and is needed now."""


# What ends a line, commands a terminal, turns the direction of writing around, or is no character at all.
_UNPRINTABLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_NAMES = re.compile(f"[\t\n{_UNPRINTABLE}]")
_IN_LINES = re.compile(f"[{_UNPRINTABLE}]")


def printable(name: str | Path) -> str:
    """A name, whatever it holds, as a part of one line: `\\n` for a line's end, `\\xff` for a byte that is no UTF-8.

    Characters that end a line, command a terminal or cannot be seen to turn the text around are written as Python
    writes them in strings; all others stay. Every name of a file in a message or in a line of results goes through
    this.
    """
    return _IN_NAMES.sub(_escaped, str(name))


def printable_lines(text: str) -> str:
    """The same for lines of text, whose ends and tabs stay."""
    return _IN_LINES.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # what Python makes of a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


def location(file: str | Path, line: int | None = None) -> str:
    """Prefix of a message: `file:` or `file:line:` with a trailing space."""
    return f"{printable(file)}: " if line is None else f"{printable(file)}:{line}: "


def raise_if_any(faults: Sequence[str], error: type[AsrkitError] = DataError) -> None:
    """Raise one `error` holding every fault, a line each; do nothing when there is none."""
    if faults:
        raise error("\n".join(faults))
