"""NIST's CTM with phones for words: `recording channel start duration phone [confidence]` a line, times in seconds."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import add
from pathlib import Path
from typing import BinaryIO, NamedTuple

from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.formats.label import Label, read_label_rows
from asrkit.formats.seconds import MAX_SECONDS, format_seconds, parse_seconds, to_micros
from asrkit.io.atomic import atomic_write
from asrkit.io.numbers import parse_numbers
from asrkit.io.scp import scan_lines, split_fields, split_row
from asrkit.io.tables import Keys
from asrkit.io.text import TextFile
from asrkit.types import Hypothesis, PhoneTime

_CHANNEL = "1"  # as Kaldi writes it
_OTHER_GAPS = {"\t", "\r"}  # in lines that asrkit did not write


class CtmLine(NamedTuple):
    """A line of a CTM file. `key` names the recording or utterance; times in seconds, as they are written."""

    key: str
    channel: str
    start: float
    end: float
    phone: str


class TimeColumns(NamedTuple):
    """The phones of an utterance with their times in seconds; confidences from 0 to 1 where every phone has one."""

    phones: list[str]
    starts: list[float]
    ends: list[float]
    confidences: list[float]

    def phone_times(self) -> list[PhoneTime]:
        return list(map(PhoneTime, self.phones, self.starts, self.ends))


def parse_line(fields: Sequence[str]) -> CtmLine | None:
    """A line of these fields; None when they are no line of a CTM file."""
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

    def columns(self, utt_ids: Iterable[str]) -> Iterator[TimeColumns]:
        """The lines of each of these utterances, empty for one that is not here; the file is opened once.

        Raises DataError as `[utt_id]`, and for confidences that are not between 0 and 1.
        """
        with self._file.open() as stream:
            position = -1
            for utt_id in utt_ids:
                row = self.keys_by_row.find(utt_id)
                if row < 0:
                    yield TimeColumns([], [], [], [])
                    continue
                start, end = self._starts[row : row + 2]
                if position != start:
                    stream.seek(start)
                text, position = stream.read(end - start).decode("utf-8", "replace"), end
                yield self._columns(utt_id, text)

    def _columns(self, utt_id: str, text: str) -> TimeColumns:
        lines = text.count("\n")
        fields = text.replace("\n", " ").split(" ")  # of lines as asrkit writes them; others are read one by one
        width = len(fields) // lines if lines and not _OTHER_GAPS & set(text) else 0
        if width in (5, 6) and len(fields) == width * lines + 1 and fields[0:-1:width] == [utt_id] * lines:
            starts, durations = (parse_numbers(fields[place:-1:width], 0.0, MAX_SECONDS) for place in (2, 3))
            confidences = parse_numbers(fields[5:-1:6], 0.0, 1.0) if width == 6 else []
            if starts is not None and durations is not None and confidences is not None and starts == sorted(starts):
                return TimeColumns(fields[4:-1:width], starts, list(map(add, starts, durations)), confidences)
        times = self[utt_id]
        last = [split_fields(line)[5:] for line in text.split("\n") if split_fields(line)]
        confidences = parse_numbers([field for fields in last for field in fields], 0.0, 1.0)
        if confidences is None:
            raise DataError(f"{location(self.path)}{utt_id}: expected confidences from 0 to 1")
        return TimeColumns(
            [time.phone for time in times],
            [time.start for time in times],
            [time.end for time in times],
            confidences if len(confidences) == len(times) else [],
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self.keys_by_row
