"""Notes: stored results of reading files, so that only files that have changed are read again.

A note about a file is valid while the file has the same size, inode and times. A program can set the time of the
content (mtime), but not the time of the last change (ctime). So a replaced file is noticed even if it has the same size
and mtime. If a file system gets the ctime wrong, `forget` makes the next check read everything.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from asrkit.io.atomic import atomic_write, not_recording
from asrkit.io.json_text import json_text, read_json

_WORTH_KEEPING = 1_000_000  # bytes: below this, files are simply read again at every check


class Notes:
    """A text about each of many files, such as a digest. Make a new object for each check of the files.

    The notes are stored in a file near the files that they describe, under relative paths. So they stay valid when the
    tree is moved. Several processes may write this file at any time: a note is only used for the file state it names.
    """

    def __init__(self, path: Path, find: Callable[[str], str]) -> None:
        """`path`: the file with the notes. `find`: computes the text about the file at a path; may raise OSError."""
        self.path = path
        self._find = find
        self._directory = os.path.abspath(path.parent)
        self._kept: dict[str, tuple[list[int], str]] = {}
        self._until = 0  # the time at which the notes were stored, in nanoseconds
        self._read()
        self._now: dict[str, tuple[list[int], str]] = {}
        self._num_new = 0  # total size of the files that were read, in bytes

    def of(self, file: str | Path) -> str | None:
        """The text about a file; None if it is missing, not a regular file, or cannot be read."""
        self.find_all([str(file)])
        noted = self._now.get(self._name(file))
        return None if noted is None else noted[1]

    def find_all(self, files: Iterable[str], map_over: Callable[..., Iterable[str | None]] = map) -> None:
        """Compute the texts about the files that have no valid note. `map_over` is `map`, or a parallel version."""
        new = {file: status for file in dict.fromkeys(files) if (status := self._if_new(file)) is not None}
        for (file, status), value in zip(new.items(), map_over(self._find_if_possible, new), strict=True):
            if value is not None:
                self._now[self._name(file)] = (_state(status), value)
                self._num_new += status.st_size

    def _find_if_possible(self, file: str) -> str | None:
        try:
            return self._find(file)
        except OSError:
            return None

    def _if_new(self, file: str) -> os.stat_result | None:
        """The present state of a file; None if its note is valid, or it cannot have one."""
        name = self._name(file)
        if name in self._now:
            return None
        try:
            status = os.stat(file)
        except (OSError, ValueError):  # ValueError: a NUL byte in the path
            return None
        kept = self._kept.get(name)
        # A file that changed while the notes were stored may have changed once more with the same time.
        if kept is not None and kept[0] == _state(status) and status.st_ctime_ns < self._until:
            self._now[name] = kept
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def save(self) -> None:
        """Store the notes, unless reading the files again is cheaper. Errors of writing are ignored."""
        if self._num_new <= _WORTH_KEEPING or not os.path.isdir(self._directory):
            return
        rows = {name: [*note[0], note[1]] for name, note in sorted(self._now.items())}
        with contextlib.suppress(OSError), not_recording(), atomic_write(self.path) as stream:
            stream.write(json_text(rows) + "\n")
        self._num_new = 0

    def _name(self, file: str | Path) -> str:
        return os.path.relpath(file, self._directory)

    def _read(self) -> None:
        """Read the stored notes. A file with other content is ignored."""
        try:
            until = self.path.stat().st_mtime_ns
            rows = {name: (row[:-1], row[-1]) for name, row in read_json(self.path).items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return
        self._kept = {name: row for name, row in rows.items() if isinstance(row[1], str)}
        self._until = until


def _state(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def notes_path(directory: Path, name: str) -> Path:
    """The path of the notes with this name in a directory."""
    return directory / f".{name}.notes"


def forget(directory: Path, *names: str) -> None:
    """Remove the notes with these names in a directory. The next check reads every file."""
    for name in names:
        notes_path(directory, name).unlink(missing_ok=True)
