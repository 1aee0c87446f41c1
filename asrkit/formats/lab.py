"""HTK's .lab files. A line: `start end phone`, in units of 100 ns. Other tools write seconds, or only the phone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from asrkit.errors import name_some
from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.formats.seconds import parse_seconds
from asrkit.io.numbers import is_number
from asrkit.types import PhoneTime

Unit = Literal["100 ns", "s", "none"]

HTK_UNIT = 1e-7  # in seconds
_HTK_UNITS_PER_SECOND = 10_000_000
_LEAST_HTK_TIME = 10_000  # 1 ms in HTK's unit; if it were seconds, it would be almost three hours


def read_lab(path: str | Path, findings: Findings) -> tuple[list[Label], Unit]:
    """The labels of a file, for `check_labels`, and the detected unit of its times.

    Times are in HTK's units of 100 ns if all are whole numbers and the last is at least 10000. Otherwise they are in
    seconds. Fields after the phone (HTK's scores and further levels) are ignored if the first of them is a number.
    Errors are added to `findings`.
    """
    rows = read_label_rows(path, findings)
    if rows and all(len(fields) == 1 for _, fields in rows):
        return [Label(fields[0], None, None, line) for line, fields in rows], "none"
    parsed: list[tuple[float, float, str, int]] = []
    for line, fields in rows:
        well_formed = len(fields) == 3 or (len(fields) > 3 and is_number(fields[3]))
        start, end = (parse_seconds(field, _HTK_UNITS_PER_SECOND) for field in (*fields, "", "")[:2])
        if not well_formed or start is None or end is None:
            findings.error(f"expected `start end phone`, found {name_some(fields)}", path, line)
        else:
            parsed.append((start, end, fields[2], line))
    times = [time for start, end, _, _ in parsed for time in (start, end)]
    is_htk = bool(times) and max(times) >= _LEAST_HTK_TIME and all(time.is_integer() for time in times)
    unit = HTK_UNIT if is_htk else 1.0
    labels = [Label(phone, start * unit, end * unit, line) for start, end, phone, line in parsed]
    return labels, "100 ns" if is_htk else "s"


def format_lab(times: Iterable[PhoneTime]) -> str:
    """The text of a .lab file with these phones, in HTK's units of 100 ns."""
    return "".join(
        f"{round(time.start * _HTK_UNITS_PER_SECOND)} {round(time.end * _HTK_UNITS_PER_SECOND)} {time.phone}\n"
        for time in times
    )
