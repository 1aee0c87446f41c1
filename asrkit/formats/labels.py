"""Readers of label files: Praat TextGrids, .phn (sample indices), .lab (HTK or seconds) and CTM.

TextGrids are read as Praat itself reads text files: free-standing numbers, quoted strings and flags count, every other
word is decoration. So one reader serves the long and the short form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asrkit.errors import location
from asrkit.io.scp import split_fields

HTK_UNIT = 1e-7  # seconds
_LEAST_HTK_TIME = 10_000  # 1 ms in HTK's unit; as seconds it would be close to three hours
_OVERLAP_TOLERANCE = 0.0015  # seconds: starts and durations that were rounded to milliseconds

# Tiers that are taken to hold phones when a TextGrid has several: Praat users', MFA's and WebMAUS's names.
_PHONE_TIERS = ("phones", "phone", "phonemes", "phoneme", "segments", "mau")

_PRAAT_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?:(?<=\s)|^)!.*|([^\s"]+)', re.MULTILINE)
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_SPACE = re.compile(r"\s")


@dataclass(frozen=True, slots=True)
class Label:
    """A phone, its times in seconds (None in a file without times) and the line that gives it."""

    phone: str
    start: float | None
    end: float | None
    line: int


@dataclass(frozen=True, slots=True)
class Tier:
    """An interval tier of a TextGrid; the empty string is the label of an empty interval."""

    name: str
    line: int
    labels: tuple[Label, ...]


def read_text(path: str | Path, faults: list[str]) -> str | None:
    """A text file in UTF-8 or UTF-16, with "\\n" for every line end and without byte-order mark; None after a fault."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        faults.append(f"{location(path)}cannot be read ({error.strerror})")
        return None
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    if encoding != "utf-16" and b"\0" in raw[:2]:
        encoding = "utf-16-be" if raw[0] == 0 else "utf-16-le"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        faults.append(
            f"{location(path, line)}neither UTF-8 nor UTF-16 (byte 0x{raw[error.start]:02x}); save it as "
            "UTF-8, since any "
            "other encoding would give other phones"
        )
        return None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def symbol_fault(phone: str) -> str | None:
    """What is wrong with a phone symbol, or None. Any Unicode symbol will do that holds no white space."""
    if not phone:
        return "an empty symbol; give the phone or remove the interval"
    if space := _SPACE.search(phone):
        return (
            f"the symbol {phone!r} holds white space (U+{ord(space[0]):04X}); expected one phone, or plain blanks "
            "between phones"
        )
    if phone in ("<blk>", "<s>", "</s>", "<unk>"):
        return f"the symbol {phone} is reserved; write the phone otherwise"
    return None


def read_textgrid(path: str | Path, faults: list[str]) -> list[Tier]:
    """The interval tiers of a TextGrid, in the long or the short form; point tiers are left out."""
    text = read_text(path, faults)
    if text is None:
        return []
    if text.startswith("ooBinaryFile"):
        faults.append(f"{location(path)}a binary TextGrid; save it as a text file in Praat")
        return []
    if "chronological TextGrid" in text[:60]:
        faults.append(f"{location(path)}a chronological TextGrid; save it as a (short) text file in Praat")
        return []
    tokens = _praat_tokens(text)
    line = 1
    tiers: list[Tier] = []

    def take(kind: type, what: str) -> str | float:
        nonlocal line
        value, line = next(tokens, (None, line))
        if type(value) is not kind:
            found = "the end of the file" if value is None else f"{value!r}"
            raise _BrokenTextGridError(f"{location(path, line)}expected {what}, found {found}")
        return value

    try:
        for _ in range(2):
            header = take(str, "`ooTextFile` and `TextGrid`: a TextGrid's first two lines")
            if header.removesuffix(" short") not in ("ooTextFile", "TextGrid"):
                raise _BrokenTextGridError(f"{location(path, line)}expected a TextGrid, found {header!r}")
        take(float, "the TextGrid's start"), take(float, "the TextGrid's end")
        flag = take(bool, "<exists>")
        num_tiers = int(take(float, "the number of tiers")) if flag else 0
        for _ in range(num_tiers):
            kind = take(str, '"IntervalTier" or "TextTier"')
            tier_line = line
            name = take(str, "the tier's name")
            take(float, "the tier's start"), take(float, "the tier's end")
            labels = []
            for _ in range(int(take(float, f"the size of tier {name}"))):
                start = take(float, f"an interval's start in tier {name}")
                end = take(float, "an interval's end") if kind == "IntervalTier" else start
                labels.append(Label(take(str, "an interval's label").strip(), start, end, line))
            if kind == "IntervalTier":
                tiers.append(Tier(name, tier_line, tuple(labels)))
            elif kind != "TextTier":
                raise _BrokenTextGridError(
                    f'{location(path, tier_line)}expected "IntervalTier" or "TextTier", found {kind!r}'
                )
        rest, line = next(tokens, (None, line))
        if rest is not None:
            raise _BrokenTextGridError(f"{location(path, line)}{rest!r} after the last interval that was announced")
    except _BrokenTextGridError as error:
        faults.append(str(error))
        return []
    return tiers


class _BrokenTextGridError(Exception):
    pass


def _praat_tokens(text: str) -> Iterator[tuple[str | float | bool, int]]:
    """Strings, numbers and flags (True for <exists>, False for <absent>) with the line on which each ends."""
    line, counted = 1, 0
    for match in _PRAAT_TOKEN.finditer(text):
        line += text.count("\n", counted, match.end())
        counted = match.end()
        quoted, word = match.groups()
        if quoted is not None:
            yield quoted.replace('""', '"'), line
        elif word in ("<exists>", "<absent>"):
            yield word == "<exists>", line
        elif word is not None and _NUMBER.fullmatch(word):
            yield float(word), line


def textgrid_labels(path: str | Path, tier: str | None, silence: str | None, faults: list[str]) -> list[Label]:
    """The phones of a TextGrid.

    Args:
        tier: the tier that holds them; None takes the only interval tier, or the only one whose name says phones
            (`phones`, `MAU`, MFA's `speaker - phones` ...).
        silence: the symbol for intervals without a label; None leaves them out.
    """
    num_faults = len(faults)
    tiers = read_textgrid(path, faults)
    if len(faults) > num_faults:
        return []
    names = ", ".join(found.name or '""' for found in tiers) or "none"
    if tier is not None:
        chosen = [found for found in tiers if found.name == tier]
    elif len(tiers) == 1:
        chosen = tiers
    else:
        chosen = [found for found in tiers if found.name.split(" - ")[-1].strip().casefold() in _PHONE_TIERS]
    if len(chosen) != 1:
        wanted = f"{len(chosen)} interval tiers" if chosen else "no interval tier"
        wanted += f" {tier!r}" if tier is not None else " that can be told to hold the phones" if not chosen else ""
        faults.append(f"{location(path)}{wanted}; choose one by --tier; found: {names}")
        return []
    labels = []
    for label in chosen[0].labels:
        if label.phone:
            labels.append(label)
        elif silence is not None:
            labels.append(Label(silence, label.start, label.end, label.line))
    return _checked(path, labels, faults)


def read_phn(path: str | Path, sample_rate: int, faults: list[str]) -> list[Label]:
    """`start end phone` a line, in samples (TIMIT's format); `sample_rate` turns them into seconds."""
    labels = []
    for line, fields in _rows(path, faults):
        if len(fields) != 3 or not all(field.isascii() and field.isdigit() for field in fields[:2]):
            faults.append(f"{location(path, line)}expected `start end phone` in samples, found {' '.join(fields)}")
            continue
        start, end = (int(field) / sample_rate for field in fields[:2])
        labels.append(Label(fields[2], start, end, line))
    return _checked(path, labels, faults)


def read_lab(path: str | Path, faults: list[str]) -> tuple[list[Label], str]:
    """`start end phone` a line, or the phone alone; with it the unit that was detected: "100 ns", "s" or "none".

    Times are HTK's units of 100 ns when all are whole numbers and the last is 10000 or more, else seconds. What
    stands behind the phone (HTK's scores and further levels) is ignored when it begins with a number.
    """
    rows = list(_rows(path, faults))
    if rows and all(len(fields) == 1 for _, fields in rows):
        return _checked(path, [Label(fields[0], None, None, line) for line, fields in rows], faults), "none"
    parsed = []
    for line, fields in rows:
        times = [_time(field) for field in fields[:2]]
        well_formed = len(fields) == 3 or (len(fields) > 3 and _NUMBER.fullmatch(fields[3]))
        if None in times or not well_formed:
            faults.append(f"{location(path, line)}expected `start end phone`, found {' '.join(fields)}")
        else:
            parsed.append((*times, fields[2], line))
    times = [time for start, end, _, _ in parsed for time in (start, end)]
    is_htk = bool(times) and max(times) >= _LEAST_HTK_TIME and all(time.is_integer() for time in times)
    unit = HTK_UNIT if is_htk else 1.0
    labels = [Label(phone, start * unit, end * unit, line) for start, end, phone, line in parsed]
    return _checked(path, labels, faults), "100 ns" if is_htk else "s"


def read_ctm(path: str | Path, faults: list[str]) -> dict[str, list[Label]]:
    """`recording channel start duration phone [confidence]` a line, in seconds, as recording -> labels."""
    recordings: dict[str, list[Label]] = {}
    channels: dict[str, str] = {}
    for line, fields in _rows(path, faults):
        if fields[0].startswith(";;"):
            continue
        times = [_time(field) for field in fields[2:4]]
        if len(fields) not in (5, 6) or None in times:
            faults.append(
                f"{location(path, line)}expected `recording channel start duration phone`, found {' '.join(fields)}"
            )
            continue
        recording, channel, _, _, phone = fields[:5]
        if channels.setdefault(recording, channel) != channel:
            faults.append(
                f"{location(path, line)}{recording}: channel {channel} after {channels[recording]}; expected one"
            )
            continue
        start, duration = times
        recordings.setdefault(recording, []).append(Label(phone, start, start + duration, line))
    return {recording: _checked(path, labels, faults) for recording, labels in recordings.items()}


def _rows(path: str | Path, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line that is not blank. A file without any is a fault."""
    text = read_text(path, faults)
    if text is None:
        return
    rows = [(line, fields) for line, row in enumerate(text.split("\n"), 1) if (fields := split_fields(row))]
    if not rows:
        faults.append(f"{location(path)}empty; expected a line for each phone")
    yield from rows


def _time(field: str) -> float | None:
    """A time that is finite and not negative, else None."""
    value = float(field) if _NUMBER.fullmatch(field) else math.nan
    return value if 0 <= value < math.inf else None


def _checked(path: str | Path, labels: list[Label], faults: list[str]) -> list[Label]:
    """`labels` as they are; what is wrong with them is noted."""
    end = 0.0
    for label in labels:
        if fault := symbol_fault(label.phone):
            faults.append(f"{location(path, label.line)}{fault}")
        if label.start is None or label.end is None:
            continue
        if label.end <= label.start:
            faults.append(
                f"{location(path, label.line)}{label.phone} starts at {label.start:.3f} s and ends at "
                f"{label.end:.3f} s; "
                "expected start < end"
            )
        if label.start < end - _OVERLAP_TOLERANCE:
            faults.append(
                f"{location(path, label.line)}{label.phone} starts at {label.start:.3f} s, before "
                f"{end:.3f} s where the "
                "interval above ends; expected intervals in order that do not overlap"
            )
        end = max(end, label.end)
    return labels
