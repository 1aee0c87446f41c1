"""NIST's CTM with phones for words: `recording channel start duration phone [confidence]` a line, times in seconds."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.formats.seconds import MAX_SECONDS, format_seconds, parse_seconds, to_micros
from asrkit.io.atomic import atomic_write
from asrkit.io.numbers import parse_number, parse_numbers
from asrkit.io.scp import scan_lines, split_fields, split_row
from asrkit.io.tables import Keys
from asrkit.io.text import TextFile
from asrkit.types import Hypothesis, PhoneTime

_CHANNEL = "1"  # as Kaldi writes it
_NO_GAPS = bytes(set(range(256)) - set(b" \t\r\n"))


class CtmLine(NamedTuple):
    """A line of a CTM file. `key` names the recording or utterance; times in seconds, as they are written."""

    key: str
    channel: str
    start: float
    end: float
    phone: str


@dataclass(frozen=True)
class TimeColumns:
    """The phones of utterances, one utterance after the other, with their times.

    Attributes:
        bounds: (utterances + 1,) the place of each utterance's first phone, and the number of all phones.
        phones: (n,) symbols.
        starts, ends: (n,) float64, in seconds from the utterance's beginning.
        confidences: (n,) float64 from 0 to 1; NaN for a phone that has none.
    """

    bounds: Sequence[int]
    phones: Sequence[str]
    starts: np.ndarray
    ends: np.ndarray
    confidences: np.ndarray

    @classmethod
    def of(cls, utts: Sequence[Sequence[PhoneTime]], confidences: Sequence[float] | None = None) -> TimeColumns:
        """The columns of utterances whose phones are given one by one."""
        times = list(chain.from_iterable(utts))
        return cls(
            _bounds(map(len, utts)),
            [time.phone for time in times],
            np.array([time.start for time in times]),
            np.array([time.end for time in times]),
            np.full(len(times), np.nan) if confidences is None else np.array(confidences),
        )


def _bounds(numbers: Iterable[int]) -> list[int]:
    return list(accumulate(numbers, initial=0))


def parse_line(fields: Sequence[str]) -> CtmLine | None:
    """A line of these fields; None if they are not a line of a CTM file."""
    if len(fields) not in (5, 6):
        return None
    start, duration = parse_seconds(fields[2]), parse_seconds(fields[3])
    if start is None or duration is None:
        return None
    return CtmLine(fields[0], fields[1], start, start + duration, fields[4])


def format_line(key: str, start: str, duration: str, phone: str, confidence: float | None = None) -> str:
    """A line of a CTM file; `start` and `duration` in seconds, rounded as the caller wants them."""
    fields = [key, _CHANNEL, start, duration, phone]
    fields += [] if confidence is None else [f"{confidence:.4f}"]
    return " ".join(fields) + "\n"


def read_ctm(path: str | Path, findings: Findings) -> dict[str, list[Label]]:
    """A CTM file of any tool, with comments (`;;`), as recording -> labels, for `check_labels`."""
    recordings: dict[str, list[Label]] = {}
    channels: dict[str, str] = {}
    for number, fields in read_label_rows(path, findings):
        if fields[0].startswith(";;"):
            continue
        line = parse_line(fields)
        if line is None:
            findings.error(f"expected `recording channel start duration phone`, found {' '.join(fields)}", path, number)
        elif (channel := channels.setdefault(line.key, line.channel)) != line.channel:
            findings.error(f"{line.key}: channel {line.channel} after {channel}; expected one", path, number)
        else:
            recordings.setdefault(line.key, []).append(Label(line.phone, line.start, line.end, number))
    return recordings


def read_phone_times(path: str | Path, findings: Findings) -> tuple[dict[str, tuple[PhoneTime, ...]], dict[str, int]]:
    """A data directory's phones.ctm: utterance -> phones in the file's order, and utterance -> its first line.

    Lines must be sorted by utterance and start.
    """
    times: dict[str, list[PhoneTime]] = {}
    first_lines: dict[str, int] = {}
    current = ""
    for number, utt, rest in scan_lines(path, findings):
        fields = [utt, *split_fields(rest)]
        line = parse_line(fields)
        if utt != current and utt in first_lines:
            findings.error(f"{utt} again after {current}; sort by utterance and start", path, number)
        current = utt
        first_lines.setdefault(utt, number)
        if line is None or line.end < line.start:
            findings.error(f"expected `utt channel start duration phone` in seconds, found {utt} {rest}", path, number)
            continue
        phones = times.setdefault(utt, [])
        if line.start < 0:
            findings.error(f"{utt}: start {fields[2]} is before the utterance's beginning, which is 0", path, number)
        elif phones and line.start < phones[-1].start:
            findings.error(
                f"{utt}: start {fields[2]} is before the line above; sort by utterance and start", path, number
            )
        phones.append(PhoneTime(line.phone, line.start, line.end))
    return {utt: tuple(phones) for utt, phones in times.items()}, first_lines


def format_phone_times(key: str, times: Iterable[PhoneTime]) -> str:
    """Lines of a data directory's phones.ctm."""
    return "".join(
        format_line(
            key, format_seconds(time.start), format_seconds(round(time.end, 6) - round(time.start, 6)), time.phone
        )
        for time in times
    )


def format_hypothesis(key: str, hypothesis: Hypothesis) -> str:
    """Lines of recognized or aligned phones, with confidences where there are any."""
    confidences = hypothesis.confidences or (None,) * len(hypothesis.times)
    lines = []
    for time, confidence in zip(hypothesis.times, confidences, strict=True):
        start, end = to_micros(time.start), to_micros(time.end)
        duration = format_seconds((end - start) / 1e6)
        lines.append(format_line(key, format_seconds(start / 1e6), duration, time.phone, confidence))
    return "".join(lines)


def write_ctm(path: str | Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write a CTM file of all hypotheses, which need times, under their utterance ids, atomically."""
    with atomic_write(path) as stream:
        for hypothesis in hypotheses:
            stream.write(format_hypothesis(hypothesis.utt_id, hypothesis))


class PhoneTimes(Mapping[str, tuple[PhoneTime, ...]]):
    """phones.ctm of a large data directory: an index in memory, an utterance's times read when asked for.

    Phones with times by utterance, in seconds from the utterance's beginning; some tens of bytes an utterance.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises DataError when the file is missing, or the lines of an utterance do not stand together."""
        self.path = Path(path)
        self._file = TextFile(path)
        self._starts = array("q")  # where each utterance begins, and the end of the file
        try:
            with self._file.open() as stream:
                self.keys_by_row = Keys(self._scan(stream))
        except FileNotFoundError:
            raise DataError(f"{location(path)}no such file; frame labels need the times of phones") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{location(path)}cannot be read ({error})") from None
        findings = Findings()
        for utt_id in self.keys_by_row.repeated():
            findings.error(f"lines of {utt_id} in two places; sort them", path)
        findings.raise_errors()

    def _scan(self, stream: BinaryIO) -> Iterator[str]:
        offset = stream.tell()
        current, beginnings = "", (b"\n", b"\r")
        for line in stream:
            if not line.startswith(beginnings):
                utt_id, _ = split_row(line.decode())
                if utt_id and utt_id != current:
                    current, beginnings = utt_id, (f"{utt_id} ".encode(), f"{utt_id}\t".encode())
                    self._starts.append(offset)
                    yield utt_id
            offset += len(line)
        self._starts.append(offset)

    def __getitem__(self, utt_id: str) -> tuple[PhoneTime, ...]:
        """Raises KeyError, and DataError for lines that are not `utt channel start duration phone` in order of time."""
        row = self.keys_by_row.row(utt_id)
        start, end = self._starts[row : row + 2]
        with self._file.open() as stream:
            stream.seek(start)
            text = stream.read(end - start).decode("utf-8", "replace")
        times: list[PhoneTime] = []
        for row_text in text.split("\n"):
            if not (fields := split_fields(row_text)):
                continue
            line = parse_line(fields)
            begin = times[-1].start if times else 0.0
            if line is None or line.key != utt_id or line.start < begin or line.end < line.start:
                expected = "`utt channel start duration phone`, sorted by start"
                raise DataError(f"{location(self.path)}{utt_id}: expected {expected}, found {row_text!r}")
            times.append(PhoneTime(line.phone, line.start, line.end))
        return tuple(times)

    def columns(self, utt_ids: Sequence[str]) -> TimeColumns:
        """The lines of these utterances, which are different ones; there are none of one that is not here.

        Raises DataError as `[utt_id]`, and for confidences that are not between 0 and 1.
        """
        rows = [row for row in map(self.keys_by_row.find, utt_ids) if row >= 0]
        return self._plain_columns(utt_ids, rows) or self._any_columns(utt_ids, rows)

    def _plain_columns(self, utt_ids: Sequence[str], rows: Sequence[int]) -> TimeColumns | None:
        """The columns of lines as asrkit writes them, all at once; None for other lines, and where one is at fault."""
        text = "".join(self._read(rows))
        num_lines = text.count("\n")
        gaps = text.encode().translate(None, _NO_GAPS)
        width = len(gaps) // max(num_lines, 1)
        is_plain = width in (5, 6) and gaps == (b" " * (width - 1) + b"\n") * num_lines
        if not is_plain or any(gap in text for gap in ("  ", " \n", "\n ")):
            return None
        fields = text.replace("\n", " ").split(" ")[:-1]
        of_lines = fields[::width]
        counts = Counter(of_lines)
        numbers = [counts[utt_id] for utt_id in utt_ids]
        if of_lines != list(chain.from_iterable(map(repeat, utt_ids, numbers))):
            return None
        starts, durations = (parse_numbers(fields[place::width], 0.0, MAX_SECONDS) for place in (2, 3))
        confidences = parse_numbers(fields[5::6], 0.0, 1.0) if width == 6 else [np.nan] * len(of_lines)
        if starts is None or durations is None or confidences is None:
            return None
        columns = np.array([starts, durations, confidences])
        bounds = _bounds(numbers)
        is_late = columns[0, 1:] >= columns[0, :-1]  # than the line before, or the first of its utterance
        is_late[[bound - 1 for bound in bounds if 0 < bound < len(starts)]] = True
        if not is_late.all():
            return None
        return TimeColumns(bounds, fields[4::width], columns[0], columns[0] + columns[1], columns[2])

    def _any_columns(self, utt_ids: Sequence[str], rows: Sequence[int]) -> TimeColumns:
        utts = [self.get(utt_id, ()) for utt_id in utt_ids]
        lines = [fields for text in self._read(rows) for line in text.split("\n") if (fields := split_fields(line))]
        confidences = [parse_number(fields[5], 0.0, 1.0) if fields[5:] else np.nan for fields in lines]
        if None in confidences:
            utt_id = lines[confidences.index(None)][0]
            raise DataError(f"{location(self.path)}{utt_id}: expected confidences from 0 to 1")
        return TimeColumns.of(utts, [value for value in confidences if value is not None])

    def _read(self, rows: Sequence[int]) -> Iterator[str]:
        """The text of these rows; rows that stand together in the file are read at once."""
        with self._file.open() as stream:
            for _, run in groupby(enumerate(rows), lambda place: place[1] - place[0]):
                (_, first), *others = run
                begin, end = self._starts[first], self._starts[first + len(others) + 1]
                stream.seek(begin)
                yield stream.read(end - begin).decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self.keys_by_row
