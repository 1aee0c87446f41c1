"""TIMIT's .phn files. A line: `start end phone`, in samples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from asrkit.errors import name_some
from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.io.numbers import parse_whole
from asrkit.types import PhoneTime

_MAX_INDEX = 10**15 - 1  # of a sample; at any usual sampling rate this is centuries


class PhnLine(NamedTuple):
    """A line of a .phn file. `start` and `end` are indices of samples."""

    start: int
    end: int
    phone: str


def parse_line(fields: Sequence[str]) -> PhnLine | None:
    """The .phn line with these fields; None if they do not form a .phn line."""
    if len(fields) != 3:
        return None
    start, end = parse_whole(fields[0], high=_MAX_INDEX), parse_whole(fields[1], high=_MAX_INDEX)
    return None if start is None or end is None else PhnLine(start, end, fields[2])


def read_phn(path: str | Path, sample_rate: int, findings: Findings) -> list[Label]:
    """The labels of a file, for `check_labels`. Its samples have the rate `sample_rate` (Hz).

    Errors are added to `findings`.
    """
    labels = []
    for number, fields in read_label_rows(path, findings):
        line = parse_line(fields)
        if line is None:
            findings.error(f"expected `start end phone` in samples, found {name_some(fields)}", path, number)
        else:
            labels.append(Label(line.phone, line.start / sample_rate, line.end / sample_rate, number))
    return labels


def format_phn(times: Iterable[PhoneTime], sample_rate: int) -> str:
    """The text of a .phn file with these phones, for a recording with the rate `sample_rate` (Hz)."""
    return "".join(
        f"{round(time.start * sample_rate)} {round(time.end * sample_rate)} {time.phone}\n" for time in times
    )
