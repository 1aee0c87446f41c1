"""Notes on files: what was found out by reading each, kept so that only those that have changed are read again.

A note holds for a file while its size, its inode and both its times are those that it had. Programs can set the time of
a file's content (mtime) as they like, but not that of its last change (ctime), so that a file of the same size and time
in another's place is noticed. Where a file system gets that wrong, `forget` makes the next look read everything.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from asrkit.io.atomic import atomic_write, not_recording
from asrkit.io.json_text import json_text, read_json

_WORTH_KEEPING = 1_000_000  # bytes of files; fewer are read at every look


class Notes:
    """A text about each of many files, such as its digest; an object is made for one look at them.

    They are kept in a file beside what they are about, under the files' relative paths, so that a tree that is renamed
    keeps its notes. Anyone may write that file at any time: what it says of a file is true or of another file.
    """

    def __init__(self, path: Path, find: Callable[[str], str]) -> None:
        """`find` gives the text about the file at a path; it may raise OSError."""
        self.path = path
        self._find = find
        self._directory = os.path.abspath(path.parent)
        self._kept: dict[str, tuple[list[int], str]] = {}
        self._until = 0  # when they were kept, in nanoseconds
        self._read()
        self._now: dict[str, tuple[list[int], str]] = {}
        self._num_new = 0  # bytes of the files that were read

    def of(self, file: str | Path) -> str | None:
        """The text about a file; None when it is missing, no regular file, or cannot be read."""
        self.find_all([str(file)])
        noted = self._now.get(self._name(file))
        return None if noted is None else noted[1]

    def find_all(self, files: Iterable[str], map_over: Callable[..., Iterable[str | None]] = map) -> None:
        """Find out about those files that are new; `map_over` is map, or does the same in several threads."""
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
        """What a file is at this moment; None when the note on it holds, or there can be none."""
        name = self._name(file)
        if name in self._now:
            return None
        try:
            status = os.stat(file)
        except (OSError, ValueError):  # ValueError: a NUL byte in the path
            return None
        kept = self._kept.get(name)
        # One that was changed when the notes were being written may have changed again at the same time.
        if kept is not None and kept[0] == _state(status) and status.st_ctime_ns < self._until:
            self._now[name] = kept
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def save(self) -> None:
        """Keep what was found out, unless that costs more than to find it out again."""
        if self._num_new <= _WORTH_KEEPING or not os.path.isdir(self._directory):
            return
        rows = {name: [*note[0], note[1]] for name, note in sorted(self._now.items())}
        with contextlib.suppress(OSError), not_recording(), atomic_write(self.path) as stream:
            stream.write(json_text(rows) + "\n")
        self._num_new = 0

    def _name(self, file: str | Path) -> str:
        return os.path.relpath(file, self._directory)

    def _read(self) -> None:
        """Take what was kept; nothing of a file that is no notes."""
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
    """The path of the notes of this name."""
    return directory / f".{name}.notes"


def forget(directory: Path, *names: str) -> None:
    """Remove the notes of these names in a directory: the next look reads every file."""
    for name in names:
        notes_path(directory, name).unlink(missing_ok=True)
