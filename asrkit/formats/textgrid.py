"""Reads and writes Praat's TextGrids.

The reader works as Praat's own: only separate numbers, quoted strings and flags count, and all other words are ignored.
So it reads the long and the short form.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from asrkit.errors import DataError, name_some
from asrkit.findings import Findings
from asrkit.formats.label import Label
from asrkit.formats.seconds import MAX_SECONDS, format_seconds, parse_seconds, to_micros
from asrkit.io.numbers import is_number
from asrkit.io.text import read_text
from asrkit.types import PhoneTime

# Names of tiers with phones, by which one is chosen if a TextGrid has several: those of Praat users, MFA and WebMAUS.
_PHONE_TIERS = ("phones", "phone", "phonemes", "phoneme", "segments", "mau")

_PRAAT_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?:(?<=\s)|^)!.*|([^\s"]+)', re.MULTILINE)

Token = TypeVar("Token", str, float, bool)


@dataclass(frozen=True, slots=True)
class Tier:
    """An interval tier of a TextGrid. The label of an empty interval is the empty string."""

    name: str
    line: int
    labels: tuple[Label, ...]


def read_textgrid(path: str | Path, findings: Findings) -> list[Tier]:
    """The interval tiers of a TextGrid, in the long or the short form. Point tiers are left out.

    Errors are added to `findings`.
    """
    text = read_text(path, findings)
    if text is None:
        return []
    if text.startswith("ooBinaryFile"):
        findings.error("a binary TextGrid; save it as a text file in Praat", path)
        return []
    if "chronological TextGrid" in text[:60]:
        findings.error("a chronological TextGrid; save it as a (short) text file in Praat", path)
        return []
    reader = _PraatReader(text)
    try:
        return reader.read_tiers()
    except _BrokenTextGridError as error:
        findings.error(str(error), path, reader.line)
        return []


def read_textgrid_labels(path: str | Path, tier: str | None, silence: str | None, findings: Findings) -> list[Label]:
    """The phones of a TextGrid, for `check_labels`.

    Args:
        path: the file.
        tier: the name of the tier with the phones. None takes the only interval tier, or the only one with a usual name
            (`phones`, `MAU`, MFA's `speaker - phones` ...).
        silence: the symbol for intervals without a label. None leaves them out.
        findings: gets the errors.
    """
    num_errors = len(findings.errors)
    tiers = read_textgrid(path, findings)
    if len(findings.errors) > num_errors:
        return []
    if tier is not None:
        chosen = [each for each in tiers if each.name == tier]
    elif len(tiers) == 1:
        chosen = tiers
    else:
        chosen = [each for each in tiers if each.name.split(" - ")[-1].strip().casefold() in _PHONE_TIERS]
    if len(chosen) != 1:
        wanted = f"{len(chosen)} interval tiers" if chosen else "no interval tier"
        wanted += f" {tier!r}" if tier is not None else " with the usual name of a tier of phones" if not chosen else ""
        names = name_some([each.name or '""' for each in tiers], ", ") or "none"
        findings.error(f"{wanted}; choose one with --tier; found: {names}", path)
        return []
    labels = []
    for label in chosen[0].labels:
        if label.phone:
            labels.append(label)
        elif silence is not None:
            labels.append(Label(silence, label.start, label.end, label.line))
    return labels


class _BrokenTextGridError(Exception):
    pass


class _PraatReader:
    """Reads the tokens of a TextGrid in order. The first unexpected token ends the reading."""

    def __init__(self, text: str) -> None:
        self.line = 1
        self._tokens = _praat_tokens(text)

    def read_tiers(self) -> list[Tier]:
        """The interval tiers. Raises _BrokenTextGridError if the file is faulty in the line `line`."""
        for _ in range(2):
            header = self._take(str, "`ooTextFile` and `TextGrid`: a TextGrid's first two lines")
            if header.removesuffix(" short") not in ("ooTextFile", "TextGrid"):
                raise _BrokenTextGridError(f"expected a TextGrid, found {header!r}")
        self._take(float, "the TextGrid's start")
        self._take(float, "the TextGrid's end")
        has_tiers = self._take(bool, "<exists>")
        num_tiers = self._take_number("the number of tiers") if has_tiers else 0
        tiers = [self._read_tier() for _ in range(num_tiers)]
        rest, self.line = next(self._tokens, (None, self.line))
        if rest is not None:
            raise _BrokenTextGridError(f"{rest!r} after the last interval; expected the end of the file")
        return [tier for tier in tiers if tier is not None]

    def _read_tier(self) -> Tier | None:
        """The next tier; None if it is a point tier."""
        kind = self._take(str, '"IntervalTier" or "TextTier"')
        first_line = self.line
        name = self._take(str, "the tier's name")
        self._take(float, "the tier's start")
        self._take(float, "the tier's end")
        is_interval_tier = kind == "IntervalTier"
        labels = []
        for _ in range(self._take_number(f"the size of tier {name}")):
            start = self._take(float, f"an interval's start in tier {name}")
            end = self._take(float, "an interval's end") if is_interval_tier else start
            phone = self._take(str, "an interval's label").strip()
            labels.append(Label(phone, start, end, self.line))
        if not is_interval_tier and kind != "TextTier":
            self.line = first_line
            raise _BrokenTextGridError(f'expected "IntervalTier" or "TextTier", found {kind!r}')
        return Tier(name, first_line, tuple(labels)) if is_interval_tier else None

    def _take_number(self, what: str) -> int:
        value = self._take(float, what)
        if not (value.is_integer() and value >= 0):
            raise _BrokenTextGridError(f"expected {what}, found {value:g}")
        return round(value)

    def _take(self, kind: type[Token], what: str) -> Token:
        value, self.line = next(self._tokens, (None, self.line))
        if not isinstance(value, kind):
            raise _BrokenTextGridError(
                f"expected {what}, found {'the end of the file' if value is None else repr(value)}"
            )
        if value == math.inf:
            raise _BrokenTextGridError(f"expected {what}, found a number beyond {MAX_SECONDS:g}")
        return value


def _praat_tokens(text: str) -> Iterator[tuple[str | float | bool, int]]:
    """The strings, numbers and flags (True for <exists>, False for <absent>), with the line on which each ends.

    A number outside the range of times becomes infinity.
    """
    line, counted = 1, 0
    for match in _PRAAT_TOKEN.finditer(text):
        line += text.count("\n", counted, match.end())
        counted = match.end()
        quoted, word = match.groups()
        if quoted is not None:
            yield quoted.replace('""', '"'), line
        elif word in ("<exists>", "<absent>"):
            yield word == "<exists>", line
        elif word is not None and is_number(word):
            value = parse_seconds(word)
            yield math.inf if value is None else value, line


def format_textgrid(duration: float, tiers: Mapping[str, Sequence[PhoneTime]]) -> str:
    """The text of a TextGrid in Praat's long form, with an interval tier for each of `tiers`.

    A tier extends from 0 to `duration` (seconds). A gap between phones becomes an interval without a label, as Praat
    requires. Labels may contain any characters.

    Raises DataError if an interval is empty, overlaps another one, or lies outside 0 to `duration`.
    """
    end = to_micros(duration)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_seconds(end)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, times) in enumerate(tiers.items(), 1):
        intervals = list(_without_holes(name, times, end))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {_seconds(end)}", f"        intervals: size = {len(intervals)}"]
        for index, (start, stop, label) in enumerate(intervals, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {_seconds(start)}"]
            lines += [f"            xmax = {_seconds(stop)}", f"            text = {_quoted(label)}"]
    return "\n".join(lines) + "\n"


def _without_holes(name: str, times: Sequence[PhoneTime], end: int) -> Iterator[tuple[int, int, str]]:
    now = 0
    for time in times:
        start, stop = to_micros(time.start), to_micros(time.end)
        if not now <= start < stop <= end:
            raise DataError(
                f"tier {name}: {time.phone} from {time.start:.6f} to {time.end:.6f} s; expected intervals in order, "
                f"without overlap, up to {end / 1e6:.6f} s"
            )
        if now < start:
            yield now, start, ""
        yield start, stop, time.phone
        now = stop
    if now < end:
        yield now, end, ""


def _seconds(micros: int) -> str:
    return format_seconds(micros / 1e6)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
