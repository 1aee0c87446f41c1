"""The labels of a recording: what the readers of all label files give, and what may be wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asrkit.findings import Findings
from asrkit.io.scp import split_fields
from asrkit.io.text import read_text
from asrkit.lang.symbols import symbol_fault
from asrkit.types import PhoneTime

_OVERLAP_TOLERANCE = 0.0015  # seconds: starts and durations that were rounded to milliseconds


@dataclass(frozen=True, slots=True)
class Label:
    """A phone, its times in seconds (None in a file without times) and the line that gives it."""

    phone: str
    start: float | None
    end: float | None
    line: int

    @property
    def time(self) -> PhoneTime | None:
        """The phone with its times, when it has them."""
        return None if self.start is None or self.end is None else PhoneTime(self.phone, self.start, self.end)


def read_label_rows(path: str | Path, findings: Findings) -> list[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank. A file without any is an error."""
    text = read_text(path, findings)
    if text is None:
        return []
    rows = [(line, fields) for line, row in enumerate(text.split("\n"), 1) if (fields := split_fields(row))]
    if not rows:
        findings.error("empty; expected a line for each phone", path)
    return rows


def check_labels(path: str | Path, labels: list[Label], findings: Findings) -> list[Label]:
    """`labels` as they are; what is wrong with them goes to `findings`."""
    end_above = 0.0
    for label in labels:
        if fault := symbol_fault(label.phone):
            findings.error(fault, path, label.line)
        if label.start is None or label.end is None:
            continue
        begins = f"{label.phone} starts at {label.start:.3f} s"
        if label.end <= label.start:
            findings.error(f"{begins} and ends at {label.end:.3f} s; expected start < end", path, label.line)
        if label.start < end_above - _OVERLAP_TOLERANCE:
            findings.error(
                f"{begins}, before {end_above:.3f} s where the interval above ends; expected intervals in order that "
                "do not overlap",
                path,
                label.line,
            )
        end_above = max(end_above, label.end)
    return labels
