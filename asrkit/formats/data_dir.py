"""Reads and writes Kaldi data directories: wav.scp, text, utt2spk, segments, spk2gender, utt2dur and more tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asrkit.audio import AudioAccess, is_pipe
from asrkit.errors import name_some
from asrkit.findings import Findings
from asrkit.formats.ctm import format_phone_times, read_phone_times
from asrkit.formats.seconds import format_seconds, parse_time
from asrkit.formats.segments import Segment, format_segment, parse_segment
from asrkit.formats.transcripts import write_transcripts
from asrkit.io.atomic import atomic_dir, atomic_write
from asrkit.io.scp import scan_table, split_fields, write_table
from asrkit.types import PhoneTime, Utterance

FEATS, SPEECH = "feats.scp", "speech.scp"


def feats_table(directory: Path) -> Path:
    """The table of a data directory's features: feats.scp, or speech.scp if they are computed when they are read.

    The latter lists the utterances, too, with the statistics of their speech.
    """
    computed = directory / SPEECH
    return computed if computed.exists() and not (directory / FEATS).exists() else directory / FEATS


@dataclass(frozen=True)
class DataDir:
    """The content of a data directory. Times are in seconds. A missing table is empty."""

    path: Path
    wav: dict[str, str] = field(
        default_factory=dict
    )  # rec_id (utt_id without segments) -> absolute path or `command |`
    text: dict[str, tuple[str, ...]] = field(default_factory=dict)  # utt_id -> phones
    utt2spk: dict[str, str] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)  # utt_id -> part of a recording
    spk2gender: dict[str, str] = field(default_factory=dict)  # "m" or "f"
    utt2dur: dict[str, float] = field(default_factory=dict)
    # Times are relative to the beginning of the utterance.
    phone_times: dict[str, tuple[PhoneTime, ...]] = field(default_factory=dict)

    def spk2utt(self) -> dict[str, list[str]]:
        """The utterance ids of each speaker. Speakers and ids are sorted."""
        utts: dict[str, list[str]] = {spk: [] for spk in sorted(set(self.utt2spk.values()))}
        for utt in sorted(self.utt2spk):
            utts[self.utt2spk[utt]].append(utt)
        return utts

    def utterances(self) -> list[Utterance]:
        """All utterances, sorted by utt_id."""
        utts = []
        for utt in sorted(self.utt2spk):
            rec_id, start, end = self.segments.get(utt, (None, None, None))
            utts.append(
                Utterance(
                    utt_id=utt,
                    spk_id=self.utt2spk[utt],
                    audio=self.wav[utt if rec_id is None else rec_id],
                    phones=self.text[utt],
                    rec_id=rec_id,
                    start=start,
                    end=end,
                    sex=self.spk2gender.get(self.utt2spk[utt]),
                    phone_times=self.phone_times.get(utt, ()),
                )
            )
        return utts


@dataclass(frozen=True)
class ParsedDataDir:
    """The readable content of a data directory, and its faults.

    Attributes:
        data: the content.
        lines: file name -> key -> line number; for phones.ctm it is that of the first line of each utterance.
        findings: the faults.
    """

    data: DataDir
    lines: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)

    def error(self, name: str, key: str, message: str) -> None:
        """Add an error about the line of `key` in the file `name`."""
        self.findings.error(message, self.data.path / name, self.lines[name][key])


def load_data_dir(path: str | Path, audio: AudioAccess = AudioAccess()) -> DataDir:
    """Read a data directory. It must contain wav.scp, text and utt2spk. The other files are optional.

    `audio` gives the root of relative paths in wav.scp, and whether pipes are accepted. No audio is opened.

    Raises DataError if files have faults, or an utterance, recording or speaker is in one file but not in another. The
    message has a line for each fault.
    """
    parsed = parse_data_dir(path, audio)
    parsed.findings.raise_errors()
    return parsed.data


def parse_data_dir(path: str | Path, audio: AudioAccess = AudioAccess()) -> ParsedDataDir:
    """Like `load_data_dir`, but returns the readable content together with the faults instead of raising them."""
    path = Path(path)
    if not path.is_dir():
        parsed = ParsedDataDir(DataDir(path))
        problem = "not a directory" if path.exists() else "no such directory"
        parsed.findings.error(f"{problem}; a data directory is made by stage 0 (asrkit prepare)", path)
        return parsed
    return _Reader(path, audio).read()


class _Reader:
    """Reads all tables into `parsed`, and then compares them."""

    def __init__(self, path: Path, audio: AudioAccess) -> None:
        self.path, self.audio = path, audio
        self.parsed = ParsedDataDir(DataDir(path))
        self.data, self.lines, self.findings = self.parsed.data, self.parsed.lines, self.parsed.findings

    def read(self) -> ParsedDataDir:
        wav, text, utt2spk = (self._table(name, required=True) for name in ("wav.scp", "text", "utt2spk"))
        spk2utt, spk2gender = self._table("spk2utt"), self._table("spk2gender")
        self._take_wav(wav)
        self.data.text.update((utt, tuple(split_fields(row))) for utt, row in text.items())
        self._take_utt2spk(utt2spk)
        self._take_spk2gender(spk2gender)
        self._take_segments(self._table("segments"))
        self._take_utt2dur(self._table("utt2dur"))
        self._take_phone_times()
        self._compare_utterances()
        if self.lines["utt2spk"]:
            self._check_speakers()
        if self.lines["spk2utt"]:
            self._check_spk2utt({spk: split_fields(row) for spk, row in spk2utt.items()})
        return self.parsed

    def _table(self, name: str, required: bool = False) -> dict[str, str]:
        self.lines[name] = {}
        rows: dict[str, str] = {}
        num_errors = len(self.findings.errors)
        if required or (self.path / name).exists():
            is_text = name == "text"
            for line, key, value in scan_table(self.path / name, self.findings, empty_ok=is_text):
                rows[key] = value
                self.lines[name][key] = line
                if is_text and not value:
                    self.parsed.error(name, key, f"{key}: empty transcript; give its phones or remove it")
            if required and not rows and len(self.findings.errors) == num_errors:
                self.findings.error("empty; expected a line for each utterance", self.path / name)
        return rows

    def _take_wav(self, rows: Mapping[str, str]) -> None:
        base = os.path.abspath(self.audio.path(""))
        for rec, entry in rows.items():
            self.data.wav[rec] = entry
            if not is_pipe(entry):
                self.data.wav[rec] = os.path.join(base, entry) if entry else ""
            elif not self.audio.allow_pipes:
                self.parsed.error(
                    "wav.scp", rec, f"{rec} is a pipe; give --allow-pipes to run it, if you trust this data"
                )

    def _take_utt2spk(self, rows: Mapping[str, str]) -> None:
        self.data.utt2spk.update(rows)
        for utt, spk in rows.items():
            if len(split_fields(spk)) > 1:
                self.parsed.error("utt2spk", utt, f"expected `utt spk`, found {utt} {spk}")

    def _take_spk2gender(self, rows: Mapping[str, str]) -> None:
        self.data.spk2gender.update(rows)
        for spk, sex in rows.items():
            if sex and sex not in ("m", "f"):
                self.parsed.error("spk2gender", spk, f"speaker {spk}: expected m or f, found {sex}")

    def _take_segments(self, rows: Mapping[str, str]) -> None:
        for utt, row in rows.items():
            segment = parse_segment(row)
            if segment is None:
                self.parsed.error("segments", utt, f"expected `utt recording start end` in seconds, found {utt} {row}")
            elif segment.start >= segment.end:
                _, start, end = split_fields(row)
                self.parsed.error("segments", utt, f"{utt}: start {start} is not before end {end}")
            else:
                self.data.segments[utt] = segment

    def _take_utt2dur(self, rows: Mapping[str, str]) -> None:
        for utt, row in rows.items():
            duration = parse_time(row)
            if duration:
                self.data.utt2dur[utt] = duration
            elif row:
                self.parsed.error("utt2dur", utt, f"{utt}: expected a length in seconds, found {row}")

    def _take_phone_times(self) -> None:
        path = self.path / "phones.ctm"
        times, self.lines["phones.ctm"] = read_phone_times(path, self.findings) if path.exists() else ({}, {})
        self.data.phone_times.update(times)

    def _compare_utterances(self) -> None:
        """Add errors for keys that are in only one of two tables.

        The keys of faulty lines count, too, so that a fault is not reported a second time as a missing key. Missing and
        empty files were reported before.
        """
        lines = self.lines
        if not (utts := lines["utt2spk"]):
            return
        if lines["text"]:
            self._compare("text", lines["text"], "utt2spk", utts)
        if lines["segments"] and lines["wav.scp"]:
            self._compare("segments", lines["segments"], "utt2spk", utts)
            used = {segment.recording: lines["segments"][utt] for utt, segment in reversed(self.data.segments.items())}
            if len(self.data.segments) == len(lines["segments"]):
                self._compare("wav.scp", lines["wav.scp"], "segments", used, "recording")
        elif lines["wav.scp"]:
            self._compare("wav.scp", lines["wav.scp"], "utt2spk", utts)
        if lines["utt2dur"]:
            self._compare("utt2dur", lines["utt2dur"], "utt2spk", utts)
        for utt in lines["phones.ctm"]:
            if utt not in utts:
                self.parsed.error("phones.ctm", utt, f"utterance {utt} is not in utt2spk")

    def _compare(
        self, name: str, keys: Mapping[str, int], other: str, others: Mapping[str, int], noun: str = "utterance"
    ) -> None:
        """Add errors for keys (key -> line number) that are in only one of two files."""
        for key, line in keys.items():
            if key not in others:
                self.findings.error(f"{noun} {key} is not in {other}", self.path / name, line)
        for key, line in others.items():
            if key not in keys:
                self.findings.error(f"{noun} {key} is not in {name}", self.path / other, line)

    def _check_speakers(self) -> None:
        speakers = set(self.data.utt2spk.values())
        for spk in self.data.spk2gender:
            if spk not in speakers:
                self.parsed.error("spk2gender", spk, f"speaker {spk} is not in utt2spk")

    def _check_spk2utt(self, listed: Mapping[str, list[str]]) -> None:
        expected = self.data.spk2utt()
        for spk, utts in listed.items():
            if spk not in expected:
                self.parsed.error("spk2utt", spk, f"speaker {spk} is not in utt2spk")
                continue
            repeated = [utt for utt, times in Counter(utts).items() if times > 1]
            difference = sorted(set(utts) ^ set(expected[spk])) or repeated
            if difference:
                self.parsed.error(
                    "spk2utt",
                    spk,
                    f"speaker {spk} disagrees with utt2spk about {name_some(sorted(difference))}; make spk2utt again "
                    "from utt2spk",
                )
        missing = sorted(expected.keys() - listed.keys())
        if missing:
            self.findings.error(f"speakers of utt2spk are missing: {name_some(missing)}", self.path / "spk2utt")


def write_data_dir(path: str | Path, utterances: Iterable[Utterance], durations: Mapping[str, float]) -> None:
    """Write a data directory atomically. A directory at `path` is replaced.

    `durations` has the length of each utterance in seconds (utt2dur). Relative paths of audio become absolute paths,
    starting at the current directory. Pipes stay unchanged. Three files are optional: segments is written if an
    utterance is only a part of its recording, spk2gender for speakers whose sex is known, and phones.ctm if there are
    phone times.

    Raises:
        DataError: the directory could not be read by `load_data_dir`; a line for each fault. There are no utterances,
        an
            id occurs twice, a transcript is empty, or a length is missing. Or times are not in order or belong to other
            phones, a symbol or id contains a blank, a recording has two sources, or a speaker has two sexes.
        OSError: the directory cannot be written.
    """
    path = Path(path)
    utts = sorted(utterances, key=lambda utt: utt.utt_id)
    _check_utterances(path, utts, durations)
    with atomic_dir(path) as new:
        _write_tables(new, utts, durations)


def wav_rows(utts: Iterable[Utterance]) -> dict[str, str]:
    """The rows of wav.scp that `write_data_dir` writes: recording id -> absolute path or pipe."""
    return {utt.recording_id: _absolute(utt.audio) for utt in utts}


def _check_utterances(path: Path, utts: Sequence[Utterance], durations: Mapping[str, float]) -> None:
    findings = Findings()
    if not utts:
        findings.error("no utterances to write", path)
    sources: dict[str, str] = {}
    sexes: dict[str, str] = {}
    last_id = None
    for utt in utts:
        faults: list[str] = ["given twice"] if utt.utt_id == last_id else []
        faults += _utterance_faults(utt, durations.get(utt.utt_id))
        audio = _absolute(utt.audio)
        if sources.setdefault(utt.recording_id, audio) != audio:
            faults.append(f"recording {utt.recording_id} is {audio} and {sources[utt.recording_id]}")
        if utt.sex is not None and sexes.setdefault(utt.spk_id, utt.sex) != utt.sex:
            faults.append(f"speaker {utt.spk_id} is both {utt.sex} and {sexes[utt.spk_id]}")
        for fault in faults:
            findings.error(f"utterance {utt.utt_id}: {fault}", path)
        last_id = utt.utt_id
    findings.raise_errors()


def _utterance_faults(utt: Utterance, duration: float | None) -> Iterator[str]:
    """The faults of one utterance."""
    if not utt.phones:
        yield "empty transcript"
    if duration is None or not duration > 0:
        yield f"length {duration}; expected seconds"
    symbols = (*utt.phones, *(time.phone for time in utt.phone_times), utt.utt_id, utt.spk_id, utt.recording_id)
    if any(split_fields(symbol) != [symbol] for symbol in symbols):
        yield "ids and phones must not be empty or hold blanks"
    if utt.end is not None and utt.end <= (utt.start or 0):
        yield f"segment {utt.start} to {utt.end}; expected start < end"
    if times := utt.phone_times:
        if tuple(time.phone for time in times) != utt.phones:
            yield f"the {len(times)} phones with times are not the {len(utt.phones)} of the transcript"
        starts = [time.start for time in times]
        if starts != sorted(starts) or any(time.end < time.start for time in times):
            yield "phone times go back"
    if utt.sex not in (None, "m", "f"):
        yield f"sex {utt.sex}; expected m or f"


def _write_tables(directory: Path, utts: Sequence[Utterance], durations: Mapping[str, float]) -> None:
    spk2utt: dict[str, list[str]] = {}
    for utt in utts:
        spk2utt.setdefault(utt.spk_id, []).append(utt.utt_id)
    write_table(directory / "wav.scp", wav_rows(utts))
    write_transcripts(directory / "text", {utt.utt_id: utt.phones for utt in utts})
    write_table(directory / "utt2spk", {utt.utt_id: utt.spk_id for utt in utts})
    write_table(directory / "spk2utt", {spk: " ".join(ids) for spk, ids in spk2utt.items()})
    write_table(directory / "utt2dur", {utt.utt_id: format_seconds(durations[utt.utt_id]) for utt in utts})
    sexes = {utt.spk_id: utt.sex for utt in utts if utt.sex is not None}
    if sexes:
        write_table(directory / "spk2gender", sexes)
    if any(utt.start is not None or utt.end is not None or utt.recording_id != utt.utt_id for utt in utts):
        segments = {utt.utt_id: _segment(utt, durations[utt.utt_id]) for utt in utts}
        write_table(directory / "segments", {utt: format_segment(segment) for utt, segment in segments.items()})
    if any(utt.phone_times for utt in utts):
        with atomic_write(directory / "phones.ctm") as stream:
            stream.writelines(format_phone_times(utt.utt_id, utt.phone_times) for utt in utts)


def _segment(utt: Utterance, duration: float) -> Segment:
    start = 0.0 if utt.start is None else utt.start
    return Segment(utt.recording_id, start, start + duration if utt.end is None else utt.end)


def _absolute(audio: str) -> str:
    return audio if is_pipe(audio) else os.path.abspath(audio)
