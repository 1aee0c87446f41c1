"""HTK's .lab files: `start end phone` a line, in units of 100 ns; other tools write seconds, or the phone alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.formats.seconds import parse_seconds
from asrkit.io.numbers import is_number
from asrkit.types import PhoneTime

Unit = Literal["100 ns", "s", "none"]

HTK_UNIT = 1e-7  # seconds
_HTK_UNITS_PER_SECOND = 10_000_000
_LEAST_HTK_TIME = 10_000  # 1 ms in HTK's unit; as seconds it would be close to three hours


def read_lab(path: str | Path, findings: Findings) -> tuple[list[Label], Unit]:
    """The labels of a file, for `check_labels`, and the unit of its times that was detected.

    Times are HTK's units of 100 ns when all are whole numbers and the last is 10000 or more, else seconds. What
    stands behind the phone (HTK's scores and further levels) is ignored when it begins with a number.
    """
    rows = read_label_rows(path, findings)
    if rows and all(len(fields) == 1 for _, fields in rows):
        return [Label(fields[0], None, None, line) for line, fields in rows], "none"
    parsed: list[tuple[float, float, str, int]] = []
    for line, fields in rows:
        well_formed = len(fields) == 3 or (len(fields) > 3 and is_number(fields[3]))
        start, end = (parse_seconds(field, _HTK_UNITS_PER_SECOND) for field in (*fields, "", "")[:2])
        if not well_formed or start is None or end is None:
            findings.error(f"expected `start end phone`, found {' '.join(fields)}", path, line)
        else:
            parsed.append((start, end, fields[2], line))
    times = [time for start, end, _, _ in parsed for time in (start, end)]
    is_htk = bool(times) and max(times) >= _LEAST_HTK_TIME and all(time.is_integer() for time in times)
    unit = HTK_UNIT if is_htk else 1.0
    labels = [Label(phone, start * unit, end * unit, line) for start, end, phone, line in parsed]
    return labels, "100 ns" if is_htk else "s"


def format_lab(times: Iterable[PhoneTime]) -> str:
    """A file of phones in HTK's units."""
    return "".join(
        f"{round(time.start * _HTK_UNITS_PER_SECOND)} {round(time.end * _HTK_UNITS_PER_SECOND)} {time.phone}\n"
        for time in times
    )
