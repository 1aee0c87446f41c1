"""Reads and writes Kaldi's text tables (wav.scp, text, utt2spk ...). A line has a key, blanks or tabs, and a value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from asrkit.errors import DataError, printable
from asrkit.findings import Findings
from asrkit.io.atomic import atomic_write
from asrkit.io.text import NUL_FAULT, open_text

# ASCII only: symbols and ids may contain other Unicode spaces. "\r" comes from tables that were edited on Windows.
BLANKS = " \t\r"
_FIELD = re.compile(r"[^ \t\r\n]+")
_SURROGATE = re.compile("[\ud800-\udfff]")  # Python's form of a byte in a file's name that is not UTF-8
_ROW = re.compile(r"[ \t\r]*([^ \t\r\n]*)[ \t\r]*([^\n]*)")  # matches any line


def split_fields(line: str) -> list[str]:
    """The fields of a line, separated by blanks and tabs. Any other character may be part of a field."""
    return _FIELD.findall(line)


def split_row(line: str) -> tuple[str, str]:
    """The key and the rest of a line; "" for a missing part."""
    match = _ROW.match(line)
    return (match[1], match[2].rstrip(BLANKS)) if match is not None else ("", "")


def scan_lines(path: str | Path, findings: Findings) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, key, rest of the line) for each usable line. The rest is "" if it is missing.

    Errors are added to `findings`. They are a missing file, empty lines, lines that are not UTF-8 or contain a NUL
    character, and line ends that Kaldi does not accept. A faulty line is still yielded if its key can be read.
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
    """Like `scan_lines`, for a table of unique keys. A repeated key is an error, and its later rows are not yielded.

    A missing value is an error unless `empty_ok`.
    """
    first_lines: dict[str, int] | None = None  # made when keys stop ascending: until then no key can be repeated
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
    """Read a table as key -> rest of the line, in the order of the file.

    `empty_ok` accepts keys without a value. Hypotheses have them if nothing was recognised.

    Raises DataError if the file is missing, a key is repeated, or a line is empty, without a value or not UTF-8. The
    message has a line for each fault.
    """
    findings = Findings()
    rows = {key: value for _, key, value in scan_table(path, findings, empty_ok=empty_ok)}
    findings.raise_errors()
    return rows


def write_table(path: str | Path, rows: Mapping[str, str]) -> None:
    """Write `rows` atomically, sorted by key in the order of the C locale, as Kaldi requires.

    Raises DataError if a key is empty, contains a blank or begins with a byte-order mark, if a value contains a line
    end, or if either contains a NUL character or is not UTF-8.
    """
    findings = Findings()
    for key, value in rows.items():
        if not key or any(blank in key for blank in " \t\r\n"):
            findings.error(f"key {key!r}: must not be empty or hold blanks", path)
        if key.startswith("\ufeff"):
            findings.error(f"key {key!r}: must not begin with a byte-order mark (U+FEFF)", path)
        if "\0" in key + value:
            findings.error(f"{key!r} or its value contains a NUL character, which no text may contain", path)
        if _SURROGATE.search(key + value):
            findings.error(f"{printable(key)} {printable(value)}: not UTF-8; rename that file or directory", path)
        if "\n" in value or "\r" in value or value != value.strip(BLANKS):
            findings.error(f"value {value!r} of {key}: must not hold line ends, nor begin or end in blanks", path)
    findings.raise_errors()
    with atomic_write(path) as stream:
        # The order of code points is the order of UTF-8 bytes, which is that of LC_ALL=C.
        for key in sorted(rows):
            stream.write(f"{key} {rows[key]}\n" if rows[key] else f"{key}\n")
