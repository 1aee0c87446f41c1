"""Kaldi's text tables (wav.scp, text, utt2spk ...): a key, then blanks or tabs, then a value, one row a line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from asrkit.errors import location, raise_if_any
from asrkit.io.atomic import atomic_write

# ASCII only: a symbol or an id may hold any other Unicode space. "\r" comes from tables edited on Windows.
BLANKS = " \t\r"
_FIELD = re.compile(r"[^ \t\r\n]+")
_ROW = re.compile(r"[ \t\r]*([^ \t\r\n]*)[ \t\r]*([^\n]*)")


def split_fields(line: str) -> list[str]:
    """Fields of a line, separated by blanks and tabs; every other character may be part of a field."""
    return _FIELD.findall(line)


def split_row(line: str) -> tuple[str, str]:
    """Key and rest of a line, "" for what is missing."""
    key, rest = _ROW.match(line).groups()
    return key, rest.rstrip(BLANKS)


def scan_lines(path: str | Path, faults: list[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, key, rest of the line) of each usable line; "" for a rest that is missing.

    A missing file, a byte-order mark, lines that are empty or not UTF-8 are appended to `faults`. The key of
    a line that is not UTF-8 is still yielded when the key itself can be read.
    """
    try:
        stream = open(path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        faults.append(f"{location(path)}no such file")
        return
    except OSError as error:
        faults.append(f"{location(path)}cannot be read ({error.strerror})")
        return
    with stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = raw[error.start]
                faults.append(
                    f"{location(path, number)}not UTF-8 (byte 0x{bad:02x} in column {error.start + 1}); re-encode it"
                )
                line = raw.decode("utf-8", errors="replace")
                if "\ufffd" in _ROW.match(line)[1]:
                    continue
            if number == 1 and line.startswith("\ufeff"):
                faults.append(f"{location(path, 1)}starts with a byte-order mark; save it as UTF-8 without one")
                line = line[1:]
            key, rest = split_row(line)
            if key:
                yield number, key, rest
            else:
                faults.append(f"{location(path, number)}empty line; remove it")


def scan_table(path: str | Path, faults: list[str], *, empty_ok: bool = False) -> Iterator[tuple[int, str, str]]:
    """As `scan_lines`, for a table of unique keys: the first row of each key, all other faults noted."""
    first_lines: dict[str, int] | None = None  # made where keys stop ascending: before that none can come again
    last = ""
    for count, (number, key, value) in enumerate(scan_lines(path, faults)):
        if first_lines is None and key <= last:
            above = itertools.islice(scan_lines(path, []), count)
            first_lines = {above_key: above_number for above_number, above_key, _ in above}
        last = key
        first = number if first_lines is None else first_lines.setdefault(key, number)
        if first != number:
            faults.append(f"{location(path, number)}{key} a second time (first in line {first}); remove one of them")
            continue
        if not value and not empty_ok:
            faults.append(f"{location(path, number)}{key} has no value")
        yield number, key, value


def read_table(path: str | Path, *, empty_ok: bool = False) -> dict[str, str]:
    """Read a table as key -> rest of the line, in the file's order.

    `empty_ok` admits keys without a value (as hypotheses have when nothing was recognised).

    Raises:
        DataError: the file is missing, or holds lines that are empty, repeated, without a value or not
            UTF-8; a line of the message for each.
    """
    faults: list[str] = []
    rows = {key: value for _, key, value in scan_table(path, faults, empty_ok=empty_ok)}
    raise_if_any(faults)
    return rows


def write_table(path: str | Path, rows: Mapping[str, str]) -> None:
    """Write `rows` sorted by key in the C locale's order, atomically.

    Raises:
        DataError: a key is empty or holds a blank, or a value holds a line end.
    """
    faults = []
    for key, value in rows.items():
        if not key or any(blank in key for blank in " \t\r\n"):
            faults.append(f"{location(path)}key {key!r}: must not be empty or hold blanks")
        if "\n" in value or value != value.strip(BLANKS):
            faults.append(
                f"{location(path)}value {value!r} of {key}: must not hold line ends, nor begin or end in blanks"
            )
    raise_if_any(faults)
    with atomic_write(path) as stream:
        # Order of code points is the order of UTF-8 bytes, hence LC_ALL=C's.
        for key in sorted(rows):
            stream.write(f"{key} {rows[key]}\n" if rows[key] else f"{key}\n")
