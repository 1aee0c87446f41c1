"""Kaldi data directories: wav.scp, text, utt2spk, spk2utt, segments, spk2gender, utt2dur and phones.ctm."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import AudioAccess, is_pipe
from asrkit.errors import DataError, location, raise_if_any
from asrkit.io.atomic import atomic_dir
from asrkit.io.scp import scan_lines, scan_table, split_fields, write_table
from asrkit.types import PhoneTime, Utterance


@dataclass(frozen=True)
class DataDir:
    """The content of a data directory. Times are in seconds; tables that are not there are empty."""

    path: Path
    wav: dict[str, str]  # rec_id (utt_id where there are no segments) -> absolute path or `command |`
    text: dict[str, tuple[str, ...]]  # utt_id -> phones
    utt2spk: dict[str, str]
    segments: dict[str, tuple[str, float, float]]  # utt_id -> (rec_id, start, end)
    spk2gender: dict[str, str]  # "m" or "f"
    utt2dur: dict[str, float]
    phone_times: dict[str, tuple[PhoneTime, ...]]  # times count from the beginning of the utterance

    def spk2utt(self) -> dict[str, list[str]]:
        """Utterances of each speaker, both sorted."""
        utts: dict[str, list[str]] = {spk: [] for spk in sorted(set(self.utt2spk.values()))}
        for utt in sorted(self.utt2spk):
            utts[self.utt2spk[utt]].append(utt)
        return utts

    def utterances(self) -> list[Utterance]:
        """All utterances, sorted by utt_id."""
        found = []
        for utt in sorted(self.utt2spk):
            rec_id, start, end = self.segments.get(utt, (None, None, None))
            found.append(
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
        return found


# File name -> key -> its line number. For phones.ctm: the first line of each utterance.
LineNumbers = dict[str, dict[str, int]]


def load_data_dir(path: str | Path, audio: AudioAccess = AudioAccess()) -> DataDir:
    """Read a data directory; wav.scp, text and utt2spk must be there, the rest may be.

    `audio` says where relative paths of wav.scp start and whether pipes are admitted. No audio is opened.

    Raises:
        DataError: every fault of every file, and every utterance, recording or speaker that is in one file
            and not in another; a line for each.
    """
    data, _, faults = parse_data_dir(path, audio)
    raise_if_any(faults)
    return data


def parse_data_dir(path: str | Path, audio: AudioAccess = AudioAccess()) -> tuple[DataDir, LineNumbers, list[str]]:
    """As `load_data_dir`, but gives what could be read, the line numbers and the faults instead of raising."""
    path = Path(path)
    if not path.is_dir():
        found = "not a directory" if path.exists() else "no such directory"
        empty = DataDir(path, {}, {}, {}, {}, {}, {}, {})
        return empty, {}, [f"{location(path)}{found}; a data directory is made by stage 0 (asrkit prepare)"]
    faults: list[str] = []
    lines: LineNumbers = {}

    def table(name: str, required: bool = False) -> dict[str, str]:
        lines[name] = {}
        rows: dict[str, str] = {}
        num_faults = len(faults)
        if required or (path / name).exists():
            for line, key, value in scan_table(path / name, faults, empty_ok=name == "text"):
                rows[key] = value
                lines[name][key] = line
                if name == "text" and not value:
                    faults.append(f"{location(path / name, line)}{key}: empty transcript; give its phones or remove it")
            if required and not rows and len(faults) == num_faults:
                faults.append(f"{location(path / name)}empty; expected a line for each utterance")
        return rows

    def where(name: str, key: str) -> str:
        return location(path / name, lines[name][key])

    wav = table("wav.scp", required=True)
    text = table("text", required=True)
    utt2spk = table("utt2spk", required=True)
    spk2utt = table("spk2utt")
    spk2gender = table("spk2gender")

    for rec, entry in wav.items():
        if not is_pipe(entry):
            wav[rec] = os.path.join(os.path.abspath(audio.path("")), entry) if entry else ""
        elif not audio.allow_pipes:
            faults.append(
                f"{where('wav.scp', rec)}{rec} is a pipe; give --allow-pipes to run it, if you trust this data"
            )

    for utt, spk in utt2spk.items():
        if len(split_fields(spk)) > 1:
            faults.append(f"{where('utt2spk', utt)}expected `utt spk`, found {utt} {spk}")
    for spk, sex in spk2gender.items():
        if sex and sex not in ("m", "f"):
            faults.append(f"{where('spk2gender', spk)}speaker {spk}: expected m or f, found {sex}")

    segments: dict[str, tuple[str, float, float]] = {}
    for utt, row in table("segments").items():
        fields = split_fields(row)
        times = [_seconds(field) for field in fields[1:]]
        if len(fields) != 3 or None in times:
            faults.append(f"{where('segments', utt)}expected `utt recording start end` in seconds, found {utt} {row}")
        elif times[0] >= times[1]:
            faults.append(f"{where('segments', utt)}{utt}: start {fields[1]} is not before end {fields[2]}")
        else:
            segments[utt] = (fields[0], times[0], times[1])

    utt2dur: dict[str, float] = {}
    for utt, row in table("utt2dur").items():
        duration = _seconds(row)
        if duration:
            utt2dur[utt] = duration
        elif row:
            faults.append(f"{where('utt2dur', utt)}{utt}: expected a length in seconds, found {row}")

    lines["phones.ctm"] = {}
    phone_times = _read_ctm(path / "phones.ctm", lines["phones.ctm"], faults)

    # Keys are compared as the files have them, so that a fault inside a line is not reported again as a lost key;
    # a file that is missing or empty was reported above.
    if utts := lines["utt2spk"]:
        if lines["text"]:
            faults += _unmatched(path, "text", lines["text"], "utt2spk", utts)
        if lines["segments"] and lines["wav.scp"]:
            faults += _unmatched(path, "segments", lines["segments"], "utt2spk", utts)
            used = {rec: lines["segments"][utt] for utt, (rec, _, _) in reversed(segments.items())}
            if len(segments) == len(lines["segments"]):
                faults += _unmatched(path, "wav.scp", lines["wav.scp"], "segments", used, "recording")
        elif lines["wav.scp"]:
            faults += _unmatched(path, "wav.scp", lines["wav.scp"], "utt2spk", utts)
        if lines["utt2dur"]:
            faults += _unmatched(path, "utt2dur", lines["utt2dur"], "utt2spk", utts)
        for utt, line in lines["phones.ctm"].items():
            if utt not in utts:
                faults.append(f"{location(path / 'phones.ctm', line)}utterance {utt} is not in utt2spk")
        speakers = set(utt2spk.values())
        for spk in spk2gender:
            if spk not in speakers:
                faults.append(f"{where('spk2gender', spk)}speaker {spk} is not in utt2spk")

    data = DataDir(
        path,
        wav,
        {utt: tuple(split_fields(value)) for utt, value in text.items()},
        utt2spk,
        segments,
        spk2gender,
        utt2dur,
        phone_times,
    )
    if lines["spk2utt"]:
        faults += _spk2utt_faults(data, {spk: split_fields(row) for spk, row in spk2utt.items()}, lines)
    return data, lines, faults


def _seconds(field: str) -> float | None:
    """A time that is finite and not negative, else None."""
    try:
        value = float(field)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None


def _unmatched(
    path: Path, name: str, keys: Mapping[str, int], other: str, others: Mapping[str, int], noun: str = "utterance"
) -> list[str]:
    """Faults for keys (key -> line number) that only one of two files holds."""
    faults = [
        f"{location(path / name, line)}{noun} {key} is not in {other}"
        for key, line in keys.items()
        if key not in others
    ]
    faults += [
        f"{location(path / other, line)}{noun} {key} is not in {name}"
        for key, line in others.items()
        if key not in keys
    ]
    return faults


def _spk2utt_faults(data: DataDir, listed: Mapping[str, list[str]], lines: LineNumbers) -> list[str]:
    expected = data.spk2utt()
    faults = []
    for spk, utts in listed.items():
        if spk not in expected:
            faults.append(f"{location(data.path / 'spk2utt', lines['spk2utt'][spk])}speaker {spk} is not in utt2spk")
            continue
        difference = sorted(set(utts) ^ set(expected[spk])) or [utt for utt in set(utts) if utts.count(utt) > 1]
        if difference:
            faults.append(
                f"{location(data.path / 'spk2utt', lines['spk2utt'][spk])}speaker {spk} disagrees with utt2spk about "
                f"{' '.join(sorted(difference))}; make spk2utt again from utt2spk"
            )
    missing = sorted(expected.keys() - listed.keys())
    if missing:
        faults.append(f"{location(data.path / 'spk2utt')}speakers of utt2spk are missing: {' '.join(missing)}")
    return faults


def _read_ctm(path: Path, first_lines: dict[str, int], faults: list[str]) -> dict[str, tuple[PhoneTime, ...]]:
    """phones.ctm as utt -> phones in the file's order; `first_lines` gets the line on which each utterance starts."""
    times: dict[str, list[PhoneTime]] = {}
    if not path.exists():
        return {}
    current = ""
    for line, utt, row in scan_lines(path, faults):
        fields = split_fields(row)
        start, duration = (_seconds(field) for field in fields[1:3]) if len(fields) in (4, 5) else (None, None)
        if utt != current and utt in first_lines:
            faults.append(f"{location(path, line)}{utt} again after {current}; sort by utterance and start")
        current = utt
        first_lines.setdefault(utt, line)
        if start is None or duration is None:
            faults.append(
                f"{location(path, line)}expected `utt channel start duration phone` in seconds, found {utt} {row}"
            )
            continue
        phones = times.setdefault(utt, [])
        if phones and start < phones[-1].start:
            faults.append(
                f"{location(path, line)}{utt}: start {fields[1]} is before the line above; sort by utterance and start"
            )
        phones.append(PhoneTime(fields[3], start, start + duration))
    return {utt: tuple(phones) for utt, phones in times.items()}


def write_data_dir(path: str | Path, utterances: Iterable[Utterance], durations: Mapping[str, float]) -> None:
    """Write a data directory, whole or not at all; what stood at `path` is replaced.

    `durations` gives each utterance's length in seconds (utt2dur). Audio paths are made absolute against
    the current directory; pipes stay as they are. segments is written when an utterance is only a part of its
    recording, spk2gender for the speakers whose sex is known, phones.ctm when there are phone times.

    Raises:
        DataError: what `load_data_dir` would refuse: no utterances, an id given twice, an empty transcript, a missing
            length, times that go back or belong to other phones, a symbol or id with a blank, a recording
            with two sources or a speaker with two sexes; a line for each.
    """
    path = Path(path)
    utts = sorted(utterances, key=lambda utt: utt.utt_id)
    faults = [] if utts else [f"{location(path)}no utterances to write"]
    wav: dict[str, str] = {}
    sexes: dict[str, str] = {}
    for before, utt in zip([None, *utts], utts, strict=False):
        prefix = f"{location(path)}utterance {utt.utt_id}: "
        if before is not None and before.utt_id == utt.utt_id:
            faults.append(f"{prefix}given twice")
        if not utt.phones:
            faults.append(f"{prefix}empty transcript")
        if not durations.get(utt.utt_id, 0) > 0:
            faults.append(f"{prefix}length {durations.get(utt.utt_id)}; expected seconds")
        symbols = (*utt.phones, *(time.phone for time in utt.phone_times), utt.utt_id, utt.spk_id, utt.recording_id)
        if any(split_fields(symbol) != [symbol] for symbol in symbols):
            faults.append(f"{prefix}ids and phones must not be empty or hold blanks")
        if utt.end is not None and utt.end <= (utt.start or 0):
            faults.append(f"{prefix}segment {utt.start} to {utt.end}; expected start < end")
        if utt.phone_times:
            times = utt.phone_times
            if tuple(time.phone for time in times) != utt.phones:
                faults.append(
                    f"{prefix}the {len(times)} phones with times are not the {len(utt.phones)} of the transcript"
                )
            starts = [time.start for time in times]
            if starts != sorted(starts) or any(time.end < time.start for time in times):
                faults.append(f"{prefix}phone times go back")
        if utt.sex not in (None, "m", "f"):
            faults.append(f"{prefix}sex {utt.sex}; expected m or f")
        audio = utt.audio if is_pipe(utt.audio) else os.path.abspath(utt.audio)
        if wav.setdefault(utt.recording_id, audio) != audio:
            faults.append(f"{prefix}recording {utt.recording_id} is {audio} and {wav[utt.recording_id]}")
        if utt.sex is not None and sexes.setdefault(utt.spk_id, utt.sex) != utt.sex:
            faults.append(f"{prefix}speaker {utt.spk_id} is both {utt.sex} and {sexes[utt.spk_id]}")
    raise_if_any(faults)
    with_segments = any(utt.start is not None or utt.end is not None or utt.recording_id != utt.utt_id for utt in utts)
    spk2utt: dict[str, list[str]] = {}
    for utt in utts:
        spk2utt.setdefault(utt.spk_id, []).append(utt.utt_id)
    try:
        with atomic_dir(path) as new:
            write_table(new / "wav.scp", wav)
            write_table(new / "text", {utt.utt_id: " ".join(utt.phones) for utt in utts})
            write_table(new / "utt2spk", {utt.utt_id: utt.spk_id for utt in utts})
            write_table(new / "spk2utt", {spk: " ".join(ids) for spk, ids in spk2utt.items()})
            write_table(new / "utt2dur", {utt.utt_id: _format(durations[utt.utt_id]) for utt in utts})
            if sexes:
                write_table(new / "spk2gender", sexes)
            if with_segments:
                rows = {}
                for utt in utts:
                    start = 0.0 if utt.start is None else utt.start
                    end = start + durations[utt.utt_id] if utt.end is None else utt.end
                    rows[utt.utt_id] = f"{utt.recording_id} {_format(start)} {_format(end)}"
                write_table(new / "segments", rows)
            if any(utt.phone_times for utt in utts):
                with open(new / "phones.ctm", "w", encoding="utf-8", newline="\n") as stream:
                    for utt in utts:
                        for time in utt.phone_times:
                            duration = _format(round(time.end, 6) - round(time.start, 6))
                            stream.write(f"{utt.utt_id} 1 {_format(time.start)} {duration} {time.phone}\n")
    except OSError as error:
        raise DataError(f"{location(path)}cannot be written ({error.strerror})") from None


def _format(seconds: float) -> str:
    """Microseconds, which give a sample's index back at any rate in use; milliseconds where they suffice."""
    text = f"{seconds:.6f}"
    return text[:-3] if text.endswith("000") else text
