"""TIMIT's .phn files: `start end phone` a line, in samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.io.numbers import parse_whole
from asrkit.types import PhoneTime

_MAX_INDEX = 10**15 - 1  # of a sample; at any rate in use these are centuries


class PhnLine(NamedTuple):
    """A line of a .phn file; `start` and `end` are indices of samples."""

    start: int
    end: int
    phone: str


def parse_line(fields: Sequence[str]) -> PhnLine | None:
    """A line of these fields; None if they are not a line of a .phn file."""
    if len(fields) != 3:
        return None
    start, end = parse_whole(fields[0], high=_MAX_INDEX), parse_whole(fields[1], high=_MAX_INDEX)
    return None if start is None or end is None else PhnLine(start, end, fields[2])


def read_phn(path: str | Path, sample_rate: int, findings: Findings) -> list[Label]:
    """The labels of a file whose samples come at `sample_rate` Hz, for `check_labels`."""
    labels = []
    for number, fields in read_label_rows(path, findings):
        line = parse_line(fields)
        if line is None:
            findings.error(f"expected `start end phone` in samples, found {' '.join(fields)}", path, number)
        else:
            labels.append(Label(line.phone, line.start / sample_rate, line.end / sample_rate, number))
    return labels


def format_phn(times: Iterable[PhoneTime], sample_rate: int) -> str:
    """A file of phones whose recording has `sample_rate` Hz."""
    return "".join(
        f"{round(time.start * sample_rate)} {round(time.end * sample_rate)} {time.phone}\n" for time in times
    )
