"""Kaldi's text tables (wav.scp, text, utt2spk ...): a key, then blanks or tabs, then a value, one row a line."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from asrkit.errors import DataError, printable
from asrkit.findings import Findings
from asrkit.io.atomic import atomic_write
from asrkit.io.text import NUL_FAULT, open_text

# ASCII only: a symbol or an id may hold any other Unicode space. "\r" comes from tables edited on Windows.
BLANKS = " \t\r"
_FIELD = re.compile(r"[^ \t\r\n]+")
_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of a byte in a file's name that is not UTF-8
_ROW = re.compile(r"[ \t\r]*([^ \t\r\n]*)[ \t\r]*([^\n]*)")  # matches any line


def split_fields(line: str) -> list[str]:
    """Fields of a line, separated by blanks and tabs; every other character may be part of a field."""
    return _FIELD.findall(line)


def split_row(line: str) -> tuple[str, str]:
    """Key and rest of a line, "" for what is missing."""
    match = _ROW.match(line)
    return (match[1], match[2].rstrip(BLANKS)) if match is not None else ("", "")


def scan_lines(path: str | Path, findings: Findings) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, key, rest of the line) of each usable line; "" for a rest that is missing.

    A missing file, lines that are empty, are not UTF-8 or hold a NUL character, and line ends that are none to Kaldi go
    to `findings`. The key of such a line is still yielded when the key itself can be read.
    """
    try:
        stream = open_text(path)
    except DataError as error:
        findings.error(str(error))
        return
    except FileNotFoundError:
        findings.error("no such file", path)
        return
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror})", path)
        return
    with stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = raw[error.start]
                findings.error(f"not UTF-8 (byte 0x{bad:02x} in column {error.start + 1}); re-encode it", path, number)
                line = raw.decode("utf-8", errors="replace")
                if "\ufffd" in split_row(line)[0]:
                    continue
            if "\0" in line:
                findings.error(NUL_FAULT, path, number)
                if "\0" in split_row(line)[0]:
                    continue
            if "\r" in line and "\r" in line.rstrip("\r\n"):
                findings.error("a carriage return inside the line; save it with the line ends of Unix", path, number)
            key, rest = split_row(line)
            if key:
                yield number, key, rest
            else:
                findings.error("empty line; remove it", path, number)


def scan_table(path: str | Path, findings: Findings, *, empty_ok: bool = False) -> Iterator[tuple[int, str, str]]:
    """As `scan_lines`, for a table of unique keys: the first row of each key; others are errors."""
    first_lines: dict[str, int] | None = None  # made where keys stop ascending: before that none can come again
    last = ""
    for count, (number, key, value) in enumerate(scan_lines(path, findings)):
        if first_lines is None and key <= last:
            above = itertools.islice(scan_lines(path, Findings()), count)
            first_lines = {above_key: above_number for above_number, above_key, _ in above}
        last = key
        first = number if first_lines is None else first_lines.setdefault(key, number)
        if first != number:
            findings.error(f"{key} a second time (first in line {first}); remove one of them", path, number)
            continue
        if not value and not empty_ok:
            findings.error(f"{key} has no value", path, number)
        yield number, key, value


def read_table(path: str | Path, *, empty_ok: bool = False) -> dict[str, str]:
    """Read a table as key -> rest of the line, in the file's order.

    `empty_ok` admits keys without a value (as hypotheses have when nothing was recognised).

    Raises:
        DataError: the file is missing, or holds lines that are empty, repeated, without a value or not
            UTF-8; a line of the message for each.
    """
    findings = Findings()
    rows = {key: value for _, key, value in scan_table(path, findings, empty_ok=empty_ok)}
    findings.raise_errors()
    return rows


def write_table(path: str | Path, rows: Mapping[str, str]) -> None:
    """Write `rows` sorted by key in the C locale's order, atomically.

    Raises:
        DataError: a key is empty, holds a blank or begins with a byte-order mark, a value holds a line end, or one of
            them a NUL character.
    """
    findings = Findings()
    for key, value in rows.items():
        if not key or any(blank in key for blank in " \t\r\n"):
            findings.error(f"key {key!r}: must not be empty or hold blanks", path)
        if key.startswith("\ufeff"):
            findings.error(f"key {key!r}: must not begin with a byte-order mark (U+FEFF)", path)
        if "\0" in key + value:
            findings.error(f"{key!r} or its value holds a NUL character, which no text has", path)
        if _SURROGATE.search(key + value):
            findings.error(f"{printable(key)} {printable(value)}: not UTF-8; rename that file or directory", path)
        if "\n" in value or "\r" in value or value != value.strip(BLANKS):
            findings.error(f"value {value!r} of {key}: must not hold line ends, nor begin or end in blanks", path)
    findings.raise_errors()
    with atomic_write(path) as stream:
        # Order of code points is the order of UTF-8 bytes, hence LC_ALL=C's.
        for key in sorted(rows):
            stream.write(f"{key} {rows[key]}\n" if rows[key] else f"{key}\n")
