"""The results of a check or a parser: errors, warnings and notes about the input, each with file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from asrkit.errors import AsrkitError, DataError, location, raise_if_any


@dataclass
class Findings:
    """Findings in the order in which they were found. Each is one line, `file:line: fault`.

    Attributes:
        errors: faults that make the input unusable.
        warnings: deviations with which the input can be used.
        notes: facts about the input, and choices that were made.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def error(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        """Add an error. `path` and `line` give its place."""
        self.errors.append(_with_location(message, path, line))

    def unreadable(self, error: OSError) -> None:
        """Add the error that a file or directory cannot be read."""
        self.error(f"cannot be read ({error.strerror})", error.filename)

    def warn(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        """Add a warning. `path` and `line` give its place."""
        self.warnings.append(_with_location(message, path, line))

    def note(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        """Add a note. `path` and `line` give its place."""
        self.notes.append(_with_location(message, path, line))

    def extend(self, other: Findings) -> None:
        """Add all findings of `other`."""
        self.errors += other.errors
        self.warnings += other.warnings
        self.notes += other.notes

    def raise_errors(self, kind: type[AsrkitError] = DataError) -> None:
        """Raise one exception of `kind` with a line for each error. Do nothing if there are no errors."""
        raise_if_any(self.errors, kind)


def _with_location(message: str, path: str | Path | None, line: int | None) -> str:
    if path is None:
        return message
    # A message may quote a text of the file, such as a label of a TextGrid, which may contain line ends.
    return f"{location(path, line)}{message}".replace("\r", "\\r").replace("\n", "\\n")
