"""The exceptions for expected errors, and helpers for their messages.

A message has one line per fault: where it is, what was found, what was expected, and the remedy. The command line
prints these lines without a traceback and exits with status 1.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path


class AsrkitError(Exception):
    """The base class of all expected errors. `str()` gives one line per fault."""


class DataError(AsrkitError):
    """A fault in a data directory, corpus, table or archive."""


class ConfigError(AsrkitError):
    """A fault in a configuration file or an option's value."""


class AudioError(AsrkitError):
    """An audio file that cannot be decoded, or contradicts its header."""


class ModelError(AsrkitError):
    """A model, checkpoint or experiment directory that cannot be used."""


class InUseError(AsrkitError):
    """Another run is writing to the same output."""


class MissingPackageError(AsrkitError):
    """A package that is needed but not installed. One of asrkit's extras contains it."""


class PeerError(AsrkitError):
    """Another process that trains the same network has ended."""


class SystemFault(AsrkitError):
    """An error of the operating system: a file cannot be read or written, or memory is exhausted."""


# Characters that end a line, control a terminal or reverse the direction of text, and halves of surrogate pairs.
_UNPRINTABLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_NAMES = re.compile(f"[\t\n{_UNPRINTABLE}]")
_IN_LINES = re.compile(f"[{_UNPRINTABLE}]")


def printable(name: str | Path) -> str:
    """A name in a form that fits on one line: `\\n` for a line end, `\\xff` for a byte that is not UTF-8.

    Characters that end a line, control a terminal or invisibly reverse the direction of text are escaped as in Python
    strings. All others stay. Every file name in a message or in a line of results passes through this function.
    """
    return _IN_NAMES.sub(_escaped, str(name))


def printable_lines(text: str) -> str:
    """Like `printable`, for text of several lines: line ends and tabs stay."""
    return _IN_LINES.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's form of a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode()


_AGAIN = "then run the same command again"
_LESS_MEMORY = f"end other programs, or let the command do less at a time (a smaller --nj, smaller batches), {_AGAIN}"
_REMEDIES = {
    errno.ENOMEM: _LESS_MEMORY,
    errno.ENOSPC: f"the disk is full; make room on it, {_AGAIN}",
    errno.EDQUOT: f"your quota on the disk is used up; remove some of your files, {_AGAIN}",
    errno.EFBIG: f"the file exceeds the limit for files; raise it (ulimit -f), {_AGAIN}",
    errno.EROFS: "the file system is read-only; give another directory",
    errno.EACCES: "change its permissions or those of its directory, or give another file",
    errno.EPERM: "change its permissions or its owner, or give another file",
    errno.EMFILE: f"raise the limit (ulimit -n), {_AGAIN}",
    errno.ENFILE: f"end other programs, {_AGAIN}",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "it is a link that leads back to itself; remove it",
    errno.EIO: f"the disk or the network to it fails; have it checked, {_AGAIN}",
    errno.ESTALE: f"it was replaced on its server meanwhile; {_AGAIN.removeprefix('then ')}",
    errno.EBADF: "it is closed; open it, or send it to /dev/null",
}
# Phrases of PyTorch, onnxruntime and the C++ library.
_SAID_OF_MEMORY = re.compile("can't allocate memory|out of memory|failed to allocate|bad_alloc|cannot allocate", re.I)


def system_fault(error: BaseException, about: str | Path | None = None) -> SystemFault | None:
    """Convert an error of the operating system to a SystemFault: one line that names the file and the remedy.

    Returns None for an error of another kind. `about` is the name to use if the error names no file.
    """
    if wants_memory(error):
        return SystemFault(f"{location(about) if about is not None else ''}not enough memory; {_LESS_MEMORY}")
    if not isinstance(error, OSError):
        return None
    said, remedy = error.strerror or str(error) or type(error).__name__, _REMEDIES.get(error.errno or 0)
    name = next((each for each in (error.filename2, error.filename, about) if each is not None), None)
    line = said if name is None else f"{location(_text(name))}cannot be used ({said})"
    return SystemFault(printable(f"{line}; {remedy}" if remedy else line))


def expected(error: Exception, about: str | Path | None = None) -> AsrkitError:
    """The error itself if it is an AsrkitError, or the SystemFault for it. Raises any other error again."""
    known = error if isinstance(error, AsrkitError) else system_fault(error, about)
    if known is None:
        raise error
    return known


def wants_memory(error: BaseException) -> bool:
    """Whether an error means that memory is exhausted. Some libraries raise a general exception then."""
    is_of_library = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")
    return isinstance(error, MemoryError) or (is_of_library and _SAID_OF_MEMORY.search(str(error)) is not None)


def _text(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else str(name)


def location(file: str | Path, line: int | None = None) -> str:
    """The prefix of a message: `file: ` or `file:line: `."""
    return f"{printable(file)}: " if line is None else f"{printable(file)}:{line}: "


def name_some(names: Sequence[str], separator: str = " ", most: int = 10) -> str:
    """The text for a message that lists names: the first ones, and how many more there are."""
    more = len(names) - most
    return separator.join(names) if more <= 1 else f"{separator.join(names[:most])} and {more} more"


def raise_if_any(faults: Sequence[str], error: type[AsrkitError] = DataError) -> None:
    """Raise one `error` with a line for each fault. Do nothing if there are no faults."""
    if faults:
        raise error("\n".join(faults))
