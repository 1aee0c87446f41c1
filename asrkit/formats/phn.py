"""TIMIT's .phn files: `start end phone` a line, in samples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.types import PhoneTime

_INDEX = re.compile(r"[0-9]{1,15}")  # of a sample; longer ones are none, and some are more than Python converts


class PhnLine(NamedTuple):
    """A line of a .phn file; `start` and `end` are indices of samples."""

    start: int
    end: int
    phone: str


def parse_line(fields: Sequence[str]) -> PhnLine | None:
    """A line of these fields; None when they are no line of a .phn file."""
    if len(fields) != 3 or not all(_INDEX.fullmatch(field) for field in fields[:2]):
        return None
    return PhnLine(int(fields[0]), int(fields[1]), fields[2])


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
