"""Check a data directory: its tables against each other, the audio and a token table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import END_TOLERANCE, AudioAccess, check_channel
from asrkit.errors import AudioError, DataError
from asrkit.features.pipeline import FEATS_STAMP
from asrkit.findings import Findings
from asrkit.formats.data_dir import DataDir, ParsedDataDir, feats_table, parse_data_dir
from asrkit.io.ark import ArkReader, is_own_table
from asrkit.io.scp import scan_table
from asrkit.lang.symbols import name_symbols, symbol_warnings
from asrkit.lang.tokens import TokenTable

DURATION_TOLERANCE = 0.01  # seconds, for utt2dur and the end of the last phone


@dataclass(frozen=True)
class Inspection:
    """The content of a data directory and its faults.

    Attributes:
        data: the tables, as far as they could be read.
        num_seconds: total length of the utterances whose audio could be opened.
        findings: an error per fault, and warnings for symbols that look alike but differ.
    """

    data: DataDir
    num_seconds: float
    findings: Findings


def validate(path: str | Path, *, tokens: TokenTable | None = None, audio: AudioAccess = AudioAccess()) -> Inspection:
    """Check everything that can be checked without decoding audio (except pipes), and count the content.

    Args:
        path: the data directory.
        tokens: the phones that are allowed; None allows all.
        audio: how to reach the audio. Audio that lacks the requested channel is a fault.
    """
    parsed = parse_data_dir(path, audio)
    for name, keys in ((feats_table(parsed.data.path).name, parsed.data.utt2spk), ("cmvn.scp", parsed.data.spk2utt())):
        if (parsed.data.path / name).exists():
            _check_archive(parsed, name, keys)
    _check_order(parsed)
    if tokens is not None:
        _check_phones(parsed, tokens)
    names: dict[str, Iterable[str]] = {} if tokens is None else {"the token list": tokens.phones}
    names[str(parsed.data.path / "text")] = {phone for phones in parsed.data.text.values() for phone in phones}
    parsed.findings.warnings += symbol_warnings(names)
    durations = _check_audio(parsed, audio)
    _check_durations(parsed, durations)
    _check_phone_times(parsed, durations)
    return Inspection(parsed.data, sum(durations.values()), parsed.findings)


def _check_archive(parsed: ParsedDataDir, name: str, keys: Collection[str]) -> None:
    """Check feats.scp, speech.scp or cmvn.scp, which should have `keys`. Its line numbers are stored in `parsed`."""
    scp, findings = parsed.data.path / name, Findings()
    rows = {key: line for line, key, _ in scan_table(scp, findings)}
    parsed.lines[name] = rows
    for key, line in rows.items():
        if key not in keys:
            findings.error(f"{key} is not in utt2spk", scp, line)
    for key in keys:
        if key not in rows:
            findings.error(f"{key} of utt2spk is missing; made by stage 1 (asrkit extract)", scp)
    if not findings.errors:
        reader = ArkReader(scp, is_beside=is_own_table(scp, scp.with_name(FEATS_STAMP)))
        for key in reader:
            try:
                reader.shape(key)
            except DataError as error:
                findings.error(str(error))
    parsed.findings.extend(findings)


def _check_order(parsed: ParsedDataDir) -> None:
    for name, rows in parsed.lines.items():
        before = ""
        for key in rows:
            if key < before:
                parsed.error(name, key, f"not sorted: {key} after {before}; sort with LC_ALL=C sort")
            before = key


def _check_phones(parsed: ParsedDataDir, tokens: TokenTable) -> None:
    for utt, phones in parsed.data.text.items():
        unknown = sorted({phone for phone in phones if phone not in tokens})
        if unknown:
            parsed.error("text", utt, f"{utt}: not in the token list: {name_symbols(unknown, tokens.phones)}")


def _check_audio(parsed: ParsedDataDir, audio: AudioAccess) -> dict[str, float]:
    """Seconds of each utterance whose audio can be opened and is long enough."""
    data = parsed.data
    recordings: dict[str, float] = {}
    for rec, entry in data.wav.items():
        if entry and audio.may_read(entry):
            try:
                info = audio.info(entry)
                recordings[rec] = info.duration
                check_channel(info.num_channels, audio.channel, entry)
            except AudioError as error:
                parsed.error("wav.scp", rec, f"{rec}: {error}")
    if not parsed.lines.get("segments"):
        return {utt: seconds for utt, seconds in recordings.items() if utt in data.utt2spk}
    durations = {}
    for utt, (rec, start, end) in data.segments.items():
        length = recordings.get(rec)
        if length is None:
            continue
        if end > length + END_TOLERANCE or start >= length:
            parsed.error("segments", utt, f"{utt} ends at {end:.3f} s, past the end of {rec}, which has {length:.3f} s")
        else:
            durations[utt] = min(end, length) - start
    return durations


def _check_durations(parsed: ParsedDataDir, durations: Mapping[str, float]) -> None:
    """Compare utt2dur with the audio."""
    for utt, stated in parsed.data.utt2dur.items():
        if abs(stated - durations.get(utt, stated)) > DURATION_TOLERANCE:
            parsed.error("utt2dur", utt, f"{utt}: {stated:.3f} s stated, the audio has {durations[utt]:.3f} s")


def _check_phone_times(parsed: ParsedDataDir, durations: Mapping[str, float]) -> None:
    """Compare phones.ctm with the audio and the transcripts."""
    for utt, times in parsed.data.phone_times.items():
        end = max(time.end for time in times)
        if utt in durations and end > durations[utt] + DURATION_TOLERANCE:
            parsed.error(
                "phones.ctm",
                utt,
                f"{utt}: phones end at {end:.3f} s, past its audio, which has {durations[utt]:.3f} s",
            )
        phones = tuple(time.phone for time in times)
        expected = parsed.data.text.get(utt, phones)
        if expected and phones != expected:
            index = next((i for i, pair in enumerate(zip(phones, expected, strict=False)) if pair[0] != pair[1]), None)
            place = (
                f"phone {index + 1} is {phones[index]}, in text {expected[index]}"
                if index is not None
                else "lengths differ"
            )
            parsed.error("phones.ctm", utt, f"{utt}: {len(phones)} phones here, {len(expected)} in text: {place}")
