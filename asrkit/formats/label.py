"""The labels of a recording, which the readers of all label files return, and the check of these labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from asrkit.audio import END_TOLERANCE
from asrkit.findings import Findings
from asrkit.io.scp import split_fields
from asrkit.io.text import read_text
from asrkit.lang.symbols import symbol_fault
from asrkit.types import PhoneTime

_OVERLAP_TOLERANCE = 0.0015  # in seconds, for starts and durations that were rounded to milliseconds


@dataclass(frozen=True, slots=True)
class Label:
    """A phone, its start and end in seconds (None in a file without times), and its line number in the file."""

    phone: str
    start: float | None
    end: float | None
    line: int

    @property
    def time(self) -> PhoneTime | None:
        """The phone with its times; None if it has none."""
        return None if self.start is None or self.end is None else PhoneTime(self.phone, self.start, self.end)


def read_label_rows(path: str | Path, findings: Findings) -> list[tuple[int, list[str]]]:
    """The number and the fields of each line that is not blank. A file without such lines is an error."""
    text = read_text(path, findings)
    if text is None:
        return []
    rows = [(line, fields) for line, row in enumerate(text.split("\n"), 1) if (fields := split_fields(row))]
    if not rows:
        findings.error("empty; expected a line for each phone", path)
    return rows


def check_labels(
    labels: Iterable[Label], path: str | Path, findings: Findings, audio_name: str = "", length: float = math.inf
) -> list[Label]:
    """Check the labels of a recording, and return them in a usable form. Only this function does this check.

    Other tools round times. So a label that ends up to END_TOLERANCE outside the recording is cut at its end. Overlaps
    that come from rounding to milliseconds are kept, but no label starts before the label above it. All other faults
    are errors in `findings`.

    Args:
        labels: the labels, in the order of the file.
        path: the file of the labels, for messages.
        findings: gets the errors.
        audio_name: the name of the recording.
        length: the length of the recording in seconds; infinite if it is not known.
    """
    checked: list[Label] = []
    start_above = end_above = 0.0
    is_past_end = False
    for label in labels:
        if fault := symbol_fault(label.phone):
            findings.error(fault, path, label.line)
        if label.start is None or label.end is None:
            checked.append(label)
            continue
        if label.end > length + END_TOLERANCE:
            if not is_past_end:  # report only the first: all later labels are past the end, too
                findings.error(
                    f"{label.phone} ends at {label.end:.3f} s, past the end of {audio_name}, which has {length:.3f} s",
                    path,
                    label.line,
                )
            is_past_end = True
            continue
        start, end = max(label.start, start_above), min(label.end, length)
        if fault := _time_fault(label, start, end, end_above, length):
            findings.error(f"{label.phone} starts at {label.start:.3f} s{fault}", path, label.line)
        else:
            checked.append(replace(label, start=start, end=end))
            start_above = start
        end_above = max(end_above, end)
    return checked


def _time_fault(label: Label, start: float, end: float, end_above: float, length: float) -> str | None:
    """The fault of a label's times, as the end of a message; None if there is none. Its usable times: start, end."""
    assert label.start is not None and label.end is not None
    begin = max(label.start, 0.0)
    if label.start < -END_TOLERANCE:
        return ", before the recording begins"
    if label.end <= label.start:
        return f" and ends at {label.end:.3f} s; expected start < end"
    if begin < end_above - _OVERLAP_TOLERANCE or (end <= start and begin < end_above):
        return (
            f", before {end_above:.3f} s where the interval above ends; expected intervals in order that do not overlap"
        )
    if end <= start:
        where = "before the recording begins" if end <= 0 else f"at its end, {length:.6f} s"
        return f" and ends at {label.end:.3f} s: it lies {where}"
    return None
