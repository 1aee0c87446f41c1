"""Reads TIMIT (LDC93S1), in the standard sets: read American English with manual phone boundaries.

All copies are accepted: names in upper or lower case, more directories above TRAIN and TEST, SPHERE or RIFF audio, and
the sample of NLTK. Nothing is written to the corpus directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asrkit.audio import END_TOLERANCE, audio_duration
from asrkit.corpora.common import Corpus
from asrkit.errors import AudioError, DataError, location, name_some
from asrkit.findings import Findings
from asrkit.formats.phn import parse_line
from asrkit.io.scp import split_fields
from asrkit.io.text import open_text
from asrkit.lang.phone_map import TIMIT_39, TIMIT_48, TIMIT_61, TIMIT_61_TO_39, TIMIT_61_TO_48, PhoneMap
from asrkit.types import CorpusInfo, PhoneTime, Utterance

INFO = CorpusInfo(
    "TIMIT",
    "English",
    "LDC's for LDC93S1",
    "J. Garofolo et al., TIMIT Acoustic-Phonetic Continuous Speech Corpus, 1993",
)
LABEL_RATE = 16000  # in Hz, for the sample indices in .PHN files, independent of the rate of the audio
TEST_SETS = ("core", "full")
DEFAULT_TEST_SET = "core"
DEFAULT_NUM_PHONES = 48
# Number of phones -> the symbols, and the map to them (None: the symbols of the transcription).
INVENTORIES: dict[int, tuple[tuple[str, ...], PhoneMap | None]] = {
    61: (TIMIT_61, None),
    48: (TIMIT_48, TIMIT_61_TO_48),
    39: (TIMIT_39, TIMIT_61_TO_39),
}


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CORE_TEST_SPEAKERS = _names(
    """
    mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0
    mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0
    """
)
DEV_SPEAKERS = _names(
    """
    faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0
    fadg0 fdms0 fedw0 mgjf0 mglb0 mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0
    mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0 fjsj0
    majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1
    """
)


@dataclass(frozen=True)
class _Standard:
    """The size of one set in the published corpus. `num_tokens`: number of labels without q, which folding drops."""

    num_spks: int
    num_utts: int
    utts_per_spk: int
    num_tokens: int | None = None


_TRAIN = _Standard(462, 3696, 8)
_DEV = _Standard(50, 400, 8, 15057)
_TEST = {"core": _Standard(24, 192, 8, 7215), "full": _Standard(168, 1680, 10)}

_SPEAKER = r"[mf][a-z]{3}\d"
_DIALECT_DIR = re.compile(r"dr[1-8]")
_SPEAKER_DIR = re.compile(_SPEAKER)
_NLTK_DIR = re.compile(rf"dr[1-8]-({_SPEAKER})")
_FILE = re.compile(r"(s[aix]\d{1,4})\.(wav|wav\.wav|phn)")


@dataclass
class _Recorded:
    """An utterance in the corpus directory: its audio file, its labels, and its length in seconds."""

    audio: str
    times: list[PhoneTime]
    duration: float


_Part = dict[str, dict[str, _Recorded]]  # speaker -> sentence -> content of the files
_Selected = tuple[str, str, _Recorded]  # speaker, sentence, content of the files


@dataclass
class _Tree:
    """The files of a copy: (part "train" or "test", speaker, directory) -> sentence -> kind of file -> path."""

    directories: dict[tuple[str, str, str], dict[str, dict[str, str]]] = field(default_factory=dict)
    speaker_tables: list[str] = field(default_factory=list)


def read_corpus(
    corpus_dir: str | Path, *, num_phones: int = DEFAULT_NUM_PHONES, test: str = DEFAULT_TEST_SET
) -> Corpus:
    """Read a copy of TIMIT into train, dev and test. Sets without utterances are left out.

    train has the utterances of the TRAIN tree. dev and test have those of the standard speakers in the TEST tree. The
    SA sentences, which all speakers read, are left out. Utterance ids are `speaker-sentence` in lower case. Phone times
    are read from the .PHN files.

    Args:
        corpus_dir: the directory of the copy.
        num_phones: 61 for the symbols of the transcription, 48 or 39 for folded symbols.
        test: "core" for the 24 speakers of the core test set, or "full" for the whole TEST tree, with the SA sentences.
            The full test set includes the dev speakers.

    Raises DataError, with a line for each fault, if:

    - audio has no .PHN file, or a .PHN file has no audio;
    - audio cannot be read or is truncated;
    - labels are malformed, unknown, out of order, overlapping or after the end of the audio;
    - a speaker is in two directories or in the wrong tree.

    Missing speakers and utterances give a warning.
    """
    phones, phone_map = INVENTORIES[num_phones]
    corpus_dir = Path(corpus_dir)
    findings = Findings()
    if not corpus_dir.is_dir():
        raise DataError(f"{location(corpus_dir)}no such directory; expected a copy of TIMIT")
    tree = _find_files(corpus_dir, findings)
    if not tree.directories and not findings.errors:
        raise DataError(
            f"{location(corpus_dir)}no TIMIT in it; expected files such as TRAIN/DR1/FCJF0/SA1.WAV, or "
            "dr1-fvmh0/sa1.wav of NLTK's sample"
        )
    parts = _read_parts(tree, findings)
    findings.raise_errors()
    is_full = test == "full"
    selected = {
        "train": _select(parts["train"], parts["train"]),
        "dev": _select(parts["test"], DEV_SPEAKERS),
        "test": _select(parts["test"], parts["test"] if is_full else CORE_TEST_SPEAKERS, with_sa=is_full),
    }
    _warn_of_differences(selected, tree, test, findings)
    sets = {
        name: [_utterance(spk, sentence, recorded, phone_map) for spk, sentence, recorded in utts]
        for name, utts in selected.items()
        if utts
    }
    durations = {
        f"{spk}-{name}": recorded.duration
        for part in parts.values()
        for spk, read in part.items()
        for name, recorded in read.items()
    }
    return Corpus(phones, sets, durations, tuple(findings.warnings), info=INFO)


def _read_parts(tree: _Tree, findings: Findings) -> dict[str, _Part]:
    """The content of the files of the parts "train" and "test"."""
    parts: dict[str, _Part] = {"train": {}, "test": {}}
    homes: dict[str, str] = {}
    for (part, spk, directory), sentences in sorted(tree.directories.items(), key=lambda item: item[0][2]):
        home = homes.setdefault(spk, directory)
        if home != directory:
            findings.error(f"speaker {spk} is in {home} already; remove one of the two", directory)
        if part == "train" and (spk in DEV_SPEAKERS or spk in CORE_TEST_SPEAKERS):
            findings.error(f"{spk} is a speaker of the standard dev or test set; expected it under TEST", directory)
        read = {name: _read_utterance(name, files, findings) for name, files in sentences.items()}
        if home == directory:
            parts[part][spk] = {name: recorded for name, recorded in read.items() if recorded is not None}
    return parts


def _select(part: _Part, spks: Iterable[str], with_sa: bool = False) -> list[_Selected]:
    """The utterances of `spks`, sorted; the SA sentences only `with_sa`."""
    return [
        (spk, name, recorded)
        for spk in sorted(spks)
        for name, recorded in sorted(part.get(spk, {}).items())
        if with_sa or not name.startswith("sa")
    ]


def _warn_of_differences(
    selected: Mapping[str, Sequence[_Selected]], tree: _Tree, test: str, findings: Findings
) -> None:
    """Warn about differences from the published corpus."""
    table = _read_speaker_tables(tree.speaker_tables)
    in_tree = {use: [spk for spk, its in table.items() if its == use] for use in ("trn", "tst")}
    wanted = {
        "train": in_tree["trn"],
        "dev": DEV_SPEAKERS,
        "test": CORE_TEST_SPEAKERS if test == "core" else in_tree["tst"],
    }
    for name, standard in (("train", _TRAIN), ("dev", _DEV), ("test", _TEST[test])):
        findings.warnings += _compare(name, selected[name], standard, wanted[name])
    if test == "full" and selected["dev"] and selected["test"]:
        findings.warn(
            "test: the full test set holds the dev speakers too, and the SA sentences; say so when you report results"
        )
    spks = sorted({spk for utts in selected.values() for spk, _, _ in utts})
    if not tree.speaker_tables:
        findings.warn("no SPKRINFO.TXT; the sex of each speaker is taken from the speaker's id")
    elif unlisted := [spk for spk in spks if spk not in table]:
        findings.warn(
            f"{_count(len(unlisted), 'speaker')} not in {tree.speaker_tables[0]}: {name_some(unlisted)}; the sex is "
            "taken from the id"
        )


def _find_files(corpus_dir: Path, findings: Findings) -> _Tree:
    tree = _Tree()
    for directory, names in _walk(os.path.abspath(corpus_dir), findings):
        tree.speaker_tables += [os.path.join(directory, name) for name in names if name.lower() == "spkrinfo.txt"]
        matched = [(name, match) for name in names if (match := _FILE.fullmatch(name.lower()))]
        if not matched:
            continue
        above = [part.lower() for part in Path(directory).parts[-3:]]
        nltk = _NLTK_DIR.fullmatch(above[-1])
        if nltk:
            place = ("train", nltk[1])
        elif (
            len(above) == 3
            and above[0] in ("train", "test")
            and _DIALECT_DIR.fullmatch(above[1])
            and _SPEAKER_DIR.fullmatch(above[2])
        ):
            place = (above[0], above[2])
        else:
            findings.error(
                f"holds {matched[0][0]}, but is no speaker's directory; expected "
                "TRAIN/DR1/FCJF0, or "
                "dr1-fvmh0 as in NLTK's sample",
                directory,
            )
            continue
        sentences = tree.directories.setdefault((*place, directory), {})
        for name, match in matched:
            sentences.setdefault(match[1], {}).setdefault(match[2], os.path.join(directory, name))
    return tree


def _walk(top: str, findings: Findings) -> Iterator[tuple[str, list[str]]]:
    """All directories with the sorted names of their files. Links are followed, but no directory occurs twice."""
    seen = set()
    for directory, subdirs, names in os.walk(top, onerror=findings.unreadable, followlinks=True):
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in seen:
            subdirs.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subdirs.sort()
        yield directory, sorted(names)


def _read_utterance(sentence: str, files: Mapping[str, str], findings: Findings) -> _Recorded | None:
    """The content of the files of one sentence; None if one is missing or cannot be read."""
    audio = files.get("wav", files.get("wav.wav"))
    labels = files.get("phn")
    if labels is None and audio is not None:
        findings.error(f"no {sentence}.phn beside it; get the whole utterance or remove it", audio)
    if audio is None and labels is not None:
        findings.error(f"no {sentence}.wav beside it; get the whole utterance or remove it", labels)
    duration = None
    if audio is not None:
        try:
            duration = audio_duration(audio)
        except AudioError as error:
            findings.error(str(error))
    if labels is None:
        return None
    times = _read_labels(labels, duration, findings)
    return None if audio is None or duration is None else _Recorded(audio, times, duration)


def _read_labels(path: str, duration: float | None, findings: Findings) -> list[PhoneTime]:
    """The labels of a .PHN file, in seconds. `duration` is that of the audio; None if it cannot be read."""
    num_errors = len(findings.errors)
    try:
        with open_text(path) as stream:
            text = stream.read().decode("utf-8", "replace")
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror})", path)
        return []
    times: list[PhoneTime] = []
    order = _OrderCheck(path, duration, findings)
    for line, row in enumerate(text.split("\n"), 1):
        fields = split_fields(row)
        label = parse_line(fields)
        if label is None:
            if fields:
                findings.error(f"expected `start end phone` in samples, found {name_some(fields)}", path, line)
            continue
        phone = label.phone.lower()
        if phone not in TIMIT_61_TO_48.table:
            findings.error(f"unknown symbol {label.phone}; expected one of TIMIT's 61", path, line)
        order.check(line, label.start, label.end, phone)
        limit = label.end / LABEL_RATE if duration is None else duration
        times.append(PhoneTime(phone, min(label.start / LABEL_RATE, limit), min(label.end / LABEL_RATE, limit)))
    if len(findings.errors) == num_errors and all(time.phone == "q" for time in times):
        findings.error("no labels in it; expected `start end phone` on each line", path)
    return times


class _OrderCheck:
    """Checks that the labels of a file are in order, do not overlap, and end within the audio."""

    def __init__(self, path: str, duration: float | None, findings: Findings) -> None:
        self.path, self.duration, self.findings = path, duration, findings
        self._last_end = 0
        self._is_past_end = False

    def check(self, line: int, start: int, end: int, phone: str) -> None:
        """Check the next label. `start` and `end` are in samples; `line` is its line number."""
        duration = self.duration
        overrun = duration is not None and end / LABEL_RATE > duration + END_TOLERANCE
        if end < start:
            self.findings.error(f"{phone} ends at {end}, before its start {start}", self.path, line)
        elif start < self._last_end:
            self.findings.error(
                f"{phone} starts at {start}, before {self._last_end}, where the labels above end; expected labels in "
                "order without overlap",
                self.path,
                line,
            )
        elif not overrun:  # labels after a faulty one are compared with those before it
            self._last_end = end
            if start == end:
                self.findings.warn(f"{phone} has no length ({start} to {end}); kept", self.path, line)
        if duration is not None and overrun and not self._is_past_end:
            self._is_past_end = True
            length = round(duration * LABEL_RATE)
            self.findings.error(
                f"{phone} ends at sample {end}, past the end of the audio, which has {length}", self.path, line
            )


def _read_speaker_tables(paths: Sequence[str]) -> dict[str, str]:
    """Speaker -> "trn", "tst" or another use in the table. Ids in the table may lack the sex at their beginning."""
    table: dict[str, str] = {}
    for path in paths:
        with open_text(path) as stream:
            rows = stream.read().decode("latin-1").lower().split("\n")
        for row in rows:
            fields = split_fields(row)
            if len(fields) >= 2 and not fields[0].startswith(";"):
                spk = fields[0] if _SPEAKER_DIR.fullmatch(fields[0]) else fields[1][0] + fields[0]
                table[spk] = fields[3] if len(fields) > 3 else ""
    return table


def _compare(name: str, utts: Sequence[_Selected], standard: _Standard, wanted: Iterable[str]) -> list[str]:
    """Warnings if a set differs from the standard one. `wanted` are the speakers that should be in it."""
    counts: dict[str, int] = {}
    for spk, _, _ in utts:
        counts[spk] = counts.get(spk, 0) + 1
    if not utts:
        return [f"{name}: this copy has none of its {standard.num_spks} speakers; no {name} is made"]
    if (len(counts), len(utts)) != (standard.num_spks, standard.num_utts):
        warning = (
            f"{name}: {len(counts)} of {standard.num_spks} speakers, {len(utts)} of {standard.num_utts} utterances"
        )
        if absent := sorted(set(wanted) - counts.keys()):
            warning += f"; absent: {name_some(absent)}"
        if partial := [f"{spk} ({num})" for spk, num in counts.items() if num != standard.utts_per_spk]:
            warning += f"; not with {standard.utts_per_spk} sentences: {name_some(partial)}"
        return [warning]
    num_tokens = sum(time.phone != "q" for _, _, recorded in utts for time in recorded.times)
    if standard.num_tokens not in (None, num_tokens):
        return [f"{name}: {num_tokens} labels other than q; the published corpus has {standard.num_tokens}"]
    return []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _utterance(spk: str, sentence: str, recorded: _Recorded, phone_map: PhoneMap | None) -> Utterance:
    times = recorded.times
    if phone_map is not None:
        folded = ((phone_map.table[time.phone], time) for time in times)
        times = [PhoneTime(phone, time.start, time.end) for phone, time in folded if phone is not None]
    return Utterance(
        f"{spk}-{sentence}",
        spk,
        recorded.audio,
        tuple(time.phone for time in times),
        sex=spk[0],
        phone_times=tuple(times),
    )
