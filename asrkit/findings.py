"""The results of a check or a parser: errors, warnings and notes about its input, each with its file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from asrkit.errors import AsrkitError, DataError, location, raise_if_any


@dataclass
class Findings:
    """A list of findings in the order in which they were found. Each is one line, `file:line: what is wrong`.

    Attributes:
        errors: faults that prevent use of the input.
        warnings: deviations that do not prevent its use.
        notes: facts that were found or chosen.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def error(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        """Add an error; `path` and `line` say where it is."""
        self.errors.append(_with_location(message, path, line))

    def unreadable(self, error: OSError) -> None:
        """Add the error of a file or directory that cannot be read."""
        self.error(f"cannot be read ({error.strerror})", error.filename)

    def warn(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        """Add a warning."""
        self.warnings.append(_with_location(message, path, line))

    def note(self, message: str, path: str | Path | None = None, line: int | None = None) -> None:
        """Add a note."""
        self.notes.append(_with_location(message, path, line))

    def extend(self, other: Findings) -> None:
        """Add all findings of another list."""
        self.errors += other.errors
        self.warnings += other.warnings
        self.notes += other.notes

    def raise_errors(self, kind: type[AsrkitError] = DataError) -> None:
        """Raise one exception of `kind` that holds every error, a line each; do nothing when there is none."""
        raise_if_any(self.errors, kind)


def _with_location(message: str, path: str | Path | None, line: int | None) -> str:
    if path is None:
        return message
    # What a message quotes of a file, a label of a TextGrid for one, may hold line ends.
    return f"{location(path, line)}{message}".replace("\r", "\\r").replace("\n", "\\n")
