"""NIST's CTM format, with phones instead of words. A line: `recording channel start duration phone [confidence]`.

Times are in seconds.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, repeat
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from asrkit.errors import DataError, location, name_some
from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.formats.seconds import MAX_SECONDS, format_seconds, parse_seconds, to_micros
from asrkit.io.atomic import atomic_write
from asrkit.io.numbers import parse_number, parse_numbers
from asrkit.io.scp import scan_lines, split_fields, split_row
from asrkit.io.tables import Keys
from asrkit.io.text import TextFile
from asrkit.types import Hypothesis, PhoneTime

_CHANNEL = "1"  # as in Kaldi
_NO_GAPS = bytes(set(range(256)) - set(b" \t\r\n"))


class CtmLine(NamedTuple):
    """A line of a CTM file. `key` is the id of the recording or utterance. Times are in seconds, as in the file."""

    key: str
    channel: str
    start: float
    end: float
    phone: str


@dataclass(frozen=True)
class TimeColumns:
    """The phones of successive utterances, with their times, in columns.

    Attributes:
        bounds: (utterances + 1,) the index of the first phone of each utterance, then the number of all phones.
        phones: (n,) the symbols.
        starts: (n,) float64, in seconds from the beginning of the utterance.
        ends: (n,) float64, in seconds from the beginning of the utterance.
        confidences: (n,) float64, from 0 to 1; NaN for a phone without one.
    """

    bounds: Sequence[int]
    phones: Sequence[str]
    starts: np.ndarray
    ends: np.ndarray
    confidences: np.ndarray

    @classmethod
    def of(cls, utts: Sequence[Sequence[PhoneTime]], confidences: Sequence[float] | None = None) -> TimeColumns:
        """The columns for the phones of `utts`. `confidences` has one value for each phone of all utterances."""
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
    """The CTM line with these fields; None if they do not form a CTM line."""
    if len(fields) not in (5, 6):
        return None
    start, duration = parse_seconds(fields[2]), parse_seconds(fields[3])
    if start is None or duration is None:
        return None
    return CtmLine(fields[0], fields[1], start, start + duration, fields[4])


def format_line(key: str, start: str, duration: str, phone: str, confidence: float | None = None) -> str:
    """A line of a CTM file. `start` and `duration` are texts in seconds, which the caller has rounded."""
    fields = [key, _CHANNEL, start, duration, phone]
    fields += [] if confidence is None else [f"{confidence:.4f}"]
    return " ".join(fields) + "\n"


def read_ctm(path: str | Path, findings: Findings) -> dict[str, list[Label]]:
    """Read a CTM file of any tool as recording -> labels, for `check_labels`. Comments (`;;`) are ignored.

    Errors are added to `findings`.
    """
    recordings: dict[str, list[Label]] = {}
    channels: dict[str, str] = {}
    for number, fields in read_label_rows(path, findings):
        if fields[0].startswith(";;"):
            continue
        line = parse_line(fields)
        if line is None:
            findings.error(
                f"expected `recording channel start duration phone`, found {name_some(fields)}", path, number
            )
        elif (channel := channels.setdefault(line.key, line.channel)) != line.channel:
            findings.error(f"{line.key}: channel {line.channel} after {channel}; expected one", path, number)
        else:
            recordings.setdefault(line.key, []).append(Label(line.phone, line.start, line.end, number))
    return recordings


def read_phone_times(path: str | Path, findings: Findings) -> tuple[dict[str, tuple[PhoneTime, ...]], dict[str, int]]:
    """Read phones.ctm of a data directory: utterance -> phones in order, and utterance -> number of its first line.

    Lines must be sorted by utterance and start. Errors are added to `findings`.
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
    """The lines of an utterance, with id `key`, in phones.ctm of a data directory."""
    return "".join(
        format_line(
            key, format_seconds(time.start), format_seconds(round(time.end, 6) - round(time.start, 6)), time.phone
        )
        for time in times
    )


def format_hypothesis(key: str, hypothesis: Hypothesis) -> str:
    """The CTM lines of recognised or aligned phones, with the confidences that the hypothesis has."""
    confidences = hypothesis.confidences or (None,) * len(hypothesis.times)
    lines = []
    for time, confidence in zip(hypothesis.times, confidences, strict=True):
        start, end = to_micros(time.start), to_micros(time.end)
        duration = format_seconds((end - start) / 1e6)
        lines.append(format_line(key, format_seconds(start / 1e6), duration, time.phone, confidence))
    return "".join(lines)


def write_ctm(path: str | Path, hypotheses: Iterable[Hypothesis]) -> None:
    """Write a CTM file of all hypotheses, under their utterance ids, atomically. The hypotheses must have times.

    Raises OSError if the file cannot be written.
    """
    with atomic_write(path) as stream:
        for hypothesis in hypotheses:
            stream.write(format_hypothesis(hypothesis.utt_id, hypothesis))


class PhoneTimes(Mapping[str, tuple[PhoneTime, ...]]):
    """Maps the utterances of a large data directory to their phones with times, from its phones.ctm.

    Only an index is in memory: some tens of bytes per utterance. The lines of an utterance are read on demand. Times
    are in seconds from the beginning of the utterance.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises DataError if the file cannot be read, or the lines of an utterance are not adjacent."""
        self.path = Path(path)
        self._file = TextFile(path)
        self._starts = array("q")  # the offsets of the utterances, and the end of the file
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
        """The phones of an utterance.

        Raises:
            KeyError: the utterance is missing.
            DataError: its lines are not `utt channel start duration phone`, sorted by start.
        """
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
        """The phones of these utterances, in columns. An utterance that is missing has no phones.

        No utterance may be named twice. Raises DataError as `[utt_id]`, and if a confidence is not from 0 to 1.
        """
        rows = [row for row in map(self.keys_by_row.find, utt_ids) if row >= 0]
        return self._plain_columns(utt_ids, rows) or self._any_columns(utt_ids, rows)

    def _plain_columns(self, utt_ids: Sequence[str], rows: Sequence[int]) -> TimeColumns | None:
        """The columns of lines in asrkit's own format, parsed together; None for other or faulty lines."""
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
        is_late = columns[0, 1:] >= columns[0, :-1]  # starts not before the line above; True at a new utterance, too
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
        """The text of these rows. Adjacent rows are read together."""
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
