"""Check a data directory: its tables against each other, against its audio and against a token table."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import END_TOLERANCE, AudioAccess, check_channel
from asrkit.errors import AudioError, DataError, location
from asrkit.formats.data_dir import DataDir, LineNumbers, parse_data_dir
from asrkit.io.ark import ArkReader
from asrkit.io.scp import scan_table
from asrkit.lang.tokens import TokenTable

DURATION_TOLERANCE = 0.01  # seconds, of utt2dur and of the last phone's end


@dataclass(frozen=True)
class Inspection:
    """What a data directory holds, and what is wrong with it (one line each)."""

    data: DataDir
    num_seconds: float  # of the utterances whose audio could be opened
    faults: list[str]


def validate(path: str | Path, *, tokens: TokenTable | None = None, audio: AudioAccess = AudioAccess()) -> Inspection:
    """Check everything that can be checked without decoding audio (pipes excepted) and count what is there.

    Args:
        path: the data directory.
        tokens: the phones that may occur; None admits all.
        audio: how to reach the audio; audio without the channel that it names is a fault.
    """
    data, lines, faults = parse_data_dir(path, audio)
    for name, keys in (("feats.scp", data.utt2spk.keys()), ("cmvn.scp", data.spk2utt().keys())):
        if (data.path / name).exists():
            faults += _archive_faults(data.path / name, keys, lines)
    faults += _unsorted(data, lines)
    if tokens is not None:
        faults += _unknown_phones(data, tokens, lines)
    durations, audio_faults = _durations(data, lines, audio)
    faults += audio_faults
    faults += _wrong_times(data, durations, lines)
    return Inspection(data, sum(durations.values()), faults)


def _unsorted(data: DataDir, lines: LineNumbers) -> list[str]:
    faults = []
    for name, rows in lines.items():
        before = ""
        for key, line in rows.items():
            if key < before:
                faults.append(
                    f"{location(data.path / name, line)}not sorted: {key} after {before}; sort with LC_ALL=C sort"
                )
            before = key
    return faults


def _unknown_phones(data: DataDir, tokens: TokenTable, lines: LineNumbers) -> list[str]:
    faults = []
    for utt, phones in data.text.items():
        unknown = sorted({phone for phone in phones if phone not in tokens})
        if unknown:
            faults.append(
                f"{location(data.path / 'text', lines['text'][utt])}{utt}: not in the token list: {' '.join(unknown)}"
            )
    return faults


def _archive_faults(scp: Path, keys: Collection[str], lines: LineNumbers) -> list[str]:
    """Faults of feats.scp or cmvn.scp, which should hold `keys`; notes its line numbers in `lines`."""
    faults: list[str] = []
    rows = {key: line for line, key, _ in scan_table(scp, faults)}
    lines[scp.name] = rows
    faults += [f"{location(scp, line)}{key} is not in utt2spk" for key, line in rows.items() if key not in keys]
    faults += [
        f"{location(scp)}{key} of utt2spk is missing; made by stage 1 (asrkit extract)"
        for key in keys
        if key not in rows
    ]
    if not faults:
        reader = ArkReader(scp)
        for key in reader:
            try:
                reader.shape(key)
            except DataError as error:
                faults.append(str(error))
    return faults


def _durations(data: DataDir, lines: LineNumbers, audio: AudioAccess) -> tuple[dict[str, float], list[str]]:
    """Seconds of each utterance whose audio can be opened and holds it, and the faults of the audio."""
    faults: list[str] = []
    recordings: dict[str, float] = {}
    for rec, entry in data.wav.items():
        if entry and audio.may_read(entry):
            try:
                info = audio.info(entry)
                recordings[rec] = info.duration
                check_channel(info.num_channels, audio.channel, entry)
            except AudioError as error:
                faults.append(f"{location(data.path / 'wav.scp', lines['wav.scp'][rec])}{rec}: {error}")
    if not lines.get("segments"):
        return {utt: seconds for utt, seconds in recordings.items() if utt in data.utt2spk}, faults
    durations = {}
    for utt, (rec, start, end) in data.segments.items():
        length = recordings.get(rec)
        if length is None:
            continue
        if end > length + END_TOLERANCE or start >= length:
            where = location(data.path / "segments", lines["segments"][utt])
            faults.append(f"{where}{utt} ends at {end:.3f} s, past the end of {rec}, which has {length:.3f} s")
        else:
            durations[utt] = min(end, length) - start
    return durations, faults


def _wrong_times(data: DataDir, durations: dict[str, float], lines: LineNumbers) -> list[str]:
    """Faults of utt2dur and phones.ctm against the audio and the transcripts."""
    faults = []
    for utt, stated in data.utt2dur.items():
        if abs(stated - durations.get(utt, stated)) > DURATION_TOLERANCE:
            where = location(data.path / "utt2dur", lines["utt2dur"][utt])
            faults.append(f"{where}{utt}: {stated:.3f} s stated, the audio has {durations[utt]:.3f} s")
    for utt, times in data.phone_times.items():
        where = location(data.path / "phones.ctm", lines["phones.ctm"][utt])
        end = max(time.end for time in times)
        if utt in durations and end > durations[utt] + DURATION_TOLERANCE:
            faults.append(f"{where}{utt}: phones end at {end:.3f} s, past its audio, which has {durations[utt]:.3f} s")
        phones = tuple(time.phone for time in times)
        expected = data.text.get(utt, phones)
        if expected and phones != expected:
            index = next((i for i, pair in enumerate(zip(phones, expected, strict=False)) if pair[0] != pair[1]), None)
            place = (
                f"phone {index + 1} is {phones[index]}, in text {expected[index]}"
                if index is not None
                else "lengths differ"
            )
            faults.append(f"{where}{utt}: {len(phones)} phones here, {len(expected)} in text: {place}")
    return faults
