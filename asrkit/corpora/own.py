"""One's own corpus: a directory of audio with a table of phones (CSV or TSV) or with a label file for each recording.

Everything is checked before anything is handed on, and every fault is told with its file and line.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from asrkit.audio import AUDIO_ENDINGS, END_TOLERANCE, UNREADABLE_AUDIO_ENDINGS, audio_info
from asrkit.corpora.common import SET_NAMES, Corpus
from asrkit.corpora.speaker_split import hold_out, is_list
from asrkit.corpora.table import Row, base_of, read_table
from asrkit.errors import AudioError, ConfigError, location, raise_if_any
from asrkit.formats.labels import Label, read_ctm, read_lab, read_phn, symbol_fault, textgrid_labels
from asrkit.types import PhoneTime, Utterance

LABEL_KINDS = ("TextGrid", "phn", "lab", "ctm")
_MANY_PHONES = 200  # no language has as many; a narrow transcription may

_AUDIO = AUDIO_ENDINGS | UNREADABLE_AUDIO_ENDINGS
_LABEL_OF_ENDING = {f".{kind}".lower(): kind for kind in LABEL_KINDS}
_TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class OwnOptions:
    """How to read a corpus of one's own.

    Attributes:
        table: the table of utterances; None takes the only .csv or .tsv file in the corpus, if there is one. Without
            a column `phones` in it, or without a table, the phones come from label files.
        labels: the kind of label files, one of LABEL_KINDS; None takes the only kind that is there.
        tier, silence: see `labels.textgrid_labels`.
        speaker: a regular expression that is searched in the audio's path below the corpus; its first group is the
            speaker. For corpora without a column `speaker`.
        dev_speakers, test_speakers: who is held out where no column says so: a share of the speakers (0.1 or 10%), a
            file of speakers, or speakers separated by commas. None is a share of speaker_split.DEFAULT_SHARE.
        partial: leave out audio without labels and labels without audio, with a warning, instead of refusing.
    """

    table: Path | None = None
    labels: str | None = None
    tier: str | None = None
    silence: str | None = None
    speaker: str | None = None
    dev_speakers: str | None = None
    test_speakers: str | None = None
    partial: bool = False


def read_corpus(
    corpus_dir: str | Path, options: OwnOptions = OwnOptions(), *, exclude: str | Path | None = None
) -> Corpus:
    """Read a directory of audio and its labels.

    Args:
        corpus_dir: all audio and label files below it are taken.
        exclude: a directory below `corpus_dir` that is none of it.

    Raises:
        DataError: a line for each fault of the corpus.
        ConfigError: options that do not fit each other or the corpus.
    """
    corpus_dir = Path(corpus_dir)
    table, labels, tier, silence = options.table, options.labels, options.tier, options.silence
    speaker, dev_speakers, test_speakers = options.speaker, options.dev_speakers, options.test_speakers
    partial = options.partial
    faults: list[str] = []
    warnings: list[str] = []
    notes: list[str] = []
    if speaker is not None:
        _check_pattern(speaker)
    if silence is not None and (fault := symbol_fault(silence)):
        raise ConfigError(f"--silence: {fault}")
    if not corpus_dir.is_dir():
        raise_if_any([f"{location(corpus_dir)}no such directory; expected the corpus's audio and labels"])
    audio, label_files, tables = _find_files(corpus_dir, exclude, faults)
    if table is None and len(tables) > 1:
        raise ConfigError(
            f"{location(corpus_dir)}{len(tables)} tables: {' '.join(t.name for t in tables)}; give one: --table"
        )
    if table is None and tables:
        table = tables[0]

    missing: list[str] = []  # audio or labels without the other
    has_phones = False
    columns: set[str] = set()
    if table is None:
        rows = [Row(location(path), base, path) for base, path in _unique_audio(audio, corpus_dir, faults)]
    else:
        rows, columns, named = read_table(Path(table), corpus_dir, faults, missing)
        has_phones = "phones" in columns
        if named is not None:
            missing += [
                f"{location(p)}not in {table}; add a row for it" for p in audio if os.path.realpath(p) not in named
            ]
    if not audio and not rows and not faults:
        faults.append(f"{location(corpus_dir)}no audio files in it")

    rows = _with_speakers(rows, corpus_dir, speaker, columns, notes, faults)
    rows = _with_ids(rows, faults)
    info = _read_audio_info(rows, faults)
    if has_phones:
        if labels is not None or tier is not None or silence is not None:
            raise ConfigError(
                f"{location(table)}has a column phones; --labels, --tier and --silence are for label files"
            )
        found = {row.utt_id: [Label(phone, None, None, 0) for phone in row.phones] for row in rows}
        if label_files:
            notes.append(f"{len(label_files)} label files are not used, since {Path(table).name} has a column phones")
    elif not label_files and rows:
        found = {}
        lacking = "no table" if table is None else f"no column phones in {Path(table).name}"
        faults.append(f"{location(corpus_dir)}{lacking} and no label files ({' '.join(_LABEL_OF_ENDING)}); give either")
    else:
        if columns & {"start", "end"}:
            faults.append(
                f"{location(table, 1)}columns start and end need a column phones; labels are of whole recordings"
            )
        files = _LabelFiles(corpus_dir, _chosen_kind(corpus_dir, label_files, labels), label_files, tier, silence)
        found = files.read(rows, info, notes, faults, missing)
    if partial:
        rows = [row for row in rows if row.utt_id in found]
        if missing:
            warnings.append(
                f"left out: {len(missing)} recordings or label files without the other, or not in the table"
            )
            warnings += missing
    else:
        faults += missing

    utts, durations = _utterances(rows, found, info, faults)
    faults += _speaker_faults(rows)
    raise_if_any(faults)
    if not utts:
        raise_if_any([f"{location(corpus_dir)}no recording has labels; put them beside the audio, or write a table"])
    has_speakers = "speaker" in columns or speaker is not None
    sets = _split(rows, utts, {"test": test_speakers, "dev": dev_speakers}, has_speakers, notes, warnings)
    warnings += _phone_warnings(sets)
    phones = sorted({phone for utt in utts for phone in utt.phones})
    return Corpus(phones, sets, durations, warnings, notes)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"--speaker: {pattern!r} is no regular expression ({error})") from None
    if groups < 1:
        raise ConfigError(f"--speaker: {pattern!r} has no group; put the speaker in parentheses, as in '^([^/]+)/'")


def _find_files(
    corpus_dir: Path, exclude: str | Path | None, faults: list[str]
) -> tuple[list[Path], list[Path], list[Path]]:
    """Audio and label files anywhere below the corpus, and tables in it itself; sorted. Hidden files are left out."""
    audio, labels, tables = [], [], []
    seen = set() if exclude is None else {os.path.realpath(exclude)}  # links may lead round in circles
    for directory, subdirectories, names in os.walk(corpus_dir, followlinks=True):
        kept = {}
        for name in sorted(subdirectories):
            real = os.path.realpath(os.path.join(directory, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                kept[name] = None
        subdirectories[:] = kept
        for name in sorted(names):
            path, ending = Path(directory, name), os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            told = os.fsencode(path).decode("utf-8", "replace").replace("\n", "\\n")
            if ending in _AUDIO and told != str(path):
                faults.append(f"{location(told)}a file name that is not UTF-8 or holds a line end; rename it")
            elif ending in _AUDIO:
                audio.append(path)
            elif ending in _LABEL_OF_ENDING:
                labels.append(path)
            elif ending in _TABLES and path.parent == corpus_dir:
                tables.append(path)
    return sorted(audio), sorted(labels), tables


def _unique_audio(audio: Iterable[Path], corpus_dir: Path, faults: list[str]) -> Iterator[tuple[str, Path]]:
    taken: dict[str, Path] = {}
    for path in audio:
        base = base_of(path, corpus_dir)
        if base in taken:
            faults.append(
                f"{location(path)}the same recording as {taken[base].name}? remove one of them, or write a table"
            )
        else:
            taken[base] = path
            yield base, path


def _with_speakers(
    rows: list[Row],
    corpus_dir: Path,
    pattern: str | None,
    columns: set[str],
    notes: list[str],
    faults: list[str],
) -> list[Row]:
    if "speaker" in columns:
        if pattern is not None:
            raise ConfigError("--speaker: the table has a column speaker; leave out one of them")
        return rows
    if pattern is None:
        if rows:
            notes.append(
                "no speakers are given (column speaker, or --speaker): every recording counts as a speaker of its own, "
                "so CMVN per speaker is per recording and a split that is made here may put one voice in two sets"
            )
        return [replace(row, spk_id=_clean(row.base)) for row in rows]
    found = []
    for row in rows:
        path = row.audio.relative_to(corpus_dir) if row.audio.is_relative_to(corpus_dir) else row.audio
        match = re.search(pattern, path.as_posix())
        if match is None or not match[1]:
            faults.append(f"{row.where}--speaker {pattern!r} does not find the speaker in {path.as_posix()}")
        found.append(replace(row, spk_id=_clean((match and match[1]) or row.base)))
    return found


def _clean(text: str) -> str:
    """A path as an id: no slashes, no white space."""
    return "_".join(text.replace("/", "-").split())


def _with_ids(rows: list[Row], faults: list[str]) -> list[Row]:
    """Give each row an utterance id, `speaker-path` unless the table has one; the first of equal ones stays."""
    found: dict[str, Row] = {}
    for row in rows:
        utt_id = row.utt_id
        if not utt_id:
            utt_id = _clean(row.base)
            if not utt_id.startswith(row.spk_id):  # Kaldi's tools want ids to sort as their speakers do
                rest = [part for part in row.base.split("/") if part != row.spk_id]
                utt_id = f"{row.spk_id}-{_clean('/'.join(rest))}"
            if row.start is not None or row.end is not None:
                end = "end" if row.end is None else f"{round(1000 * row.end):07d}"
                utt_id += f"-{round(1000 * (row.start or 0)):07d}-{end}"
        first = found.setdefault(utt_id, row)
        if first is row:
            found[utt_id] = replace(row, utt_id=utt_id)
        else:
            faults.append(f"{row.where}utterance {utt_id} a second time, first at {first.where.rstrip(': ')}")
    return list(found.values())


def _read_audio_info(rows: Iterable[Row], faults: list[str]) -> dict[Path, tuple[float, int]]:
    """Seconds and rate of each audio file that can be read."""
    info: dict[Path, tuple[float, int]] = {}
    broken = set()
    for row in rows:
        if row.audio in info or row.audio in broken:
            continue
        where = "" if row.where == location(row.audio) else row.where
        try:
            num_samples, rate, num_channels = audio_info(row.audio)
        except AudioError as error:
            faults += [f"{where}{fault}" for fault in str(error).split("\n")]
            broken.add(row.audio)
            continue
        if num_channels > 1:
            faults.append(f"{where or location(row.audio)}{num_channels} channels in {row.audio.name}; make it mono")
        info[row.audio] = (num_samples / rate, rate)
    return info


def _chosen_kind(corpus_dir: Path, files: Iterable[Path], wanted: str | None) -> str | None:
    kinds = Counter(_LABEL_OF_ENDING[path.suffix.lower()] for path in files)
    if wanted is None and len(kinds) > 1:
        found = ", ".join(f"{number} .{kind}" for kind, number in sorted(kinds.items()))
        raise ConfigError(f"{location(corpus_dir)}label files of several kinds: {found}; choose one by --labels")
    return wanted if wanted is not None else next(iter(kinds), None)


class _LabelFiles:
    """The label files of one kind, and which recording each belongs to."""

    def __init__(
        self, corpus_dir: Path, kind: str | None, files: Iterable[Path], tier: str | None, silence: str | None
    ):
        self.corpus_dir, self.kind, self.tier, self.silence = corpus_dir, kind, tier, silence
        self.files = [path for path in files if _LABEL_OF_ENDING[path.suffix.lower()] == kind]
        if kind != "TextGrid" and (tier is not None or silence is not None):
            raise ConfigError(
                f"--tier and --silence are for TextGrids; the labels are {f'.{kind}' if kind else 'none'}"
            )

    def read(
        self,
        rows: Sequence[Row],
        info: Mapping[Path, tuple[float, int]],
        notes: list[str],
        faults: list[str],
        missing: list[str],
    ) -> dict[str, list[Label]]:
        """Labels by utt_id; utterances without any and labels without audio are noted in `missing`."""
        sources: list[tuple[str, Path, list[Label] | None]] = []  # name as in _base, file, labels when read already
        units: Counter[str] = Counter()
        for path in self.files:
            if self.kind == "ctm":
                sources += [(recording, path, labels) for recording, labels in read_ctm(path, faults).items()]
            else:
                sources.append((base_of(path, self.corpus_dir), path, None))
        row_of = self._match(rows, [name for name, _, _ in sources])
        found: dict[str, list[Label]] = {}
        taken: dict[str, Path] = {}
        for name, path, labels in sources:
            row = row_of.get(name)
            line = labels[0].line if labels else None
            if row is None:
                missing.append(f"{location(path, line)}no audio for the labels of {name}")
                continue
            if row.utt_id in taken:
                faults.append(
                    f"{location(path, line)}labels of {row.audio.name} a second time, after {taken[row.utt_id]}"
                )
                continue
            taken[row.utt_id] = path
            if labels is None:
                num_faults = len(faults)
                labels = self._read_file(path, info.get(row.audio, (0.0, 0))[1], units, faults)
                if not labels and len(faults) == num_faults:
                    faults.append(f"{location(path)}no phones in it; label the recording or remove both")
            found[row.utt_id] = labels
            length = info[row.audio][0] if row.audio in info else math.inf
            for label in labels:
                if label.end is not None and label.end > length + END_TOLERANCE:
                    faults.append(
                        f"{location(path, label.line)}{label.phone} ends at {label.end:.3f} s, past the end of "
                        f"{row.audio.name}, which has {length:.3f} s"
                    )
                    break
        missing += [
            f"{row.where}no .{self.kind} labels for {row.audio.name}" for row in rows if row.utt_id not in taken
        ]
        if units:
            said = {"100 ns": "in units of 100 ns, as HTK's", "s": "in seconds", "none": "no times"}
            notes.append(".lab: " + "; ".join(f"{number} files {said[unit]}" for unit, number in sorted(units.items())))
        return found

    def _match(self, rows: Sequence[Row], names: Sequence[str]) -> dict[str, Row]:
        """Row of each name: of the same path, else of the same last part where only one recording and label have it."""
        by_base = {row.base: row for row in rows} | {row.utt_id: row for row in rows}
        rows_of_stem: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            rows_of_stem[row.base.rpartition("/")[2]].append(row)
        num_names = Counter(name.rpartition("/")[2] for name in names)
        found = {}
        for name in names:
            stem = name.rpartition("/")[2]
            if name in by_base:
                found[name] = by_base[name]
            elif len(rows_of_stem.get(stem, ())) == 1 and num_names[stem] == 1:
                found[name] = rows_of_stem[stem][0]
        return found

    def _read_file(self, path: Path, sample_rate: int, units: Counter[str], faults: list[str]) -> list[Label]:
        if self.kind == "TextGrid":
            return textgrid_labels(path, self.tier, self.silence, faults)
        if self.kind == "phn":
            return read_phn(path, sample_rate or 16000, faults)
        labels, unit = read_lab(path, faults)
        units[unit] += 1
        return labels


def _utterances(
    rows: Iterable[Row],
    labels: Mapping[str, list[Label]],
    info: Mapping[Path, tuple[float, int]],
    faults: list[str],
) -> tuple[list[Utterance], dict[str, float]]:
    utts, durations = [], {}
    recordings: dict[str, Path] = {}
    for row in rows:
        if row.audio not in info or not labels.get(row.utt_id):
            continue
        length = info[row.audio][0]
        is_part = row.start is not None or row.end is not None
        start, end = row.start or 0.0, length if row.end is None else row.end
        if end > length + END_TOLERANCE or start >= length:
            faults.append(f"{row.where}{start:.3f} to {end:.3f} s; {row.audio.name} ends at {length:.3f} s")
            continue
        rec_id = _clean(row.base) if is_part else row.utt_id
        if recordings.setdefault(rec_id, row.audio) != row.audio:
            faults.append(f"{row.where}recording {rec_id} is {recordings[rec_id]} already; rename one of the files")
        phones = labels[row.utt_id]
        times = [
            PhoneTime(label.phone, label.start, min(label.end, length))
            for label in phones
            if label.start is not None and label.end is not None
        ]
        utts.append(
            Utterance(
                utt_id=row.utt_id,
                spk_id=row.spk_id,
                audio=os.path.abspath(row.audio),
                phones=tuple(label.phone for label in phones),
                rec_id=rec_id if is_part else None,
                start=start if is_part else None,
                end=min(end, length) if is_part else None,
                sex=row.sex,
                phone_times=tuple(times),
            )
        )
        durations[row.utt_id] = min(end, length) - start
    return utts, durations


def _speaker_faults(rows: Iterable[Row]) -> list[str]:
    """A line for each row whose speaker was of another set or sex before."""
    faults = []
    sets: dict[str, Row] = {}
    sexes: dict[str, Row] = {}
    told = set()
    for row in rows:
        first = sets.setdefault(row.spk_id, row)
        if row.set_name != first.set_name and (row.spk_id, row.set_name) not in told:
            told.add((row.spk_id, row.set_name))
            faults.append(
                f"{row.where}speaker {row.spk_id} in {row.set_name}, but in {first.set_name} at "
                f"{first.where.rstrip(': ')}; keep a speaker in one set"
            )
        if row.sex is None:
            continue
        first = sexes.setdefault(row.spk_id, row)
        if row.sex != first.sex and (row.spk_id, "sex") not in told:
            told.add((row.spk_id, "sex"))
            faults.append(
                f"{row.where}speaker {row.spk_id} is {row.sex}, but {first.sex} at {first.where.rstrip(': ')}"
            )
    return faults


def _split(
    rows: Iterable[Row],
    utts: Sequence[Utterance],
    wanted: Mapping[str, str | None],
    has_speakers: bool,
    notes: list[str],
    warnings: list[str],
) -> dict[str, list[Utterance]]:
    """The utterances of each set: by the column `set`; sets that it does not name are split off train by speaker."""
    set_of = {row.spk_id: row.set_name or "train" for row in rows}
    named = {row.set_name for row in rows} - {""}
    for name, value in wanted.items():
        if value is not None and name in named:
            raise ConfigError(f"--{name}-speakers: the column set gives {name} already; leave out one of them")
    of_train = {spk for spk, name in set_of.items() if name == "train"}
    if not of_train:
        raise ConfigError("the column set says train nowhere; nothing to train on")
    wanted = {name: value for name, value in wanted.items() if name not in named}
    held_out = hold_out(of_train, wanted, known=set(set_of))
    what = "speakers" if has_speakers else "recordings (speakers are not known)"
    for name, chosen in held_out.items():
        set_of.update(dict.fromkeys(chosen, name))
        how = "as listed" if is_list(wanted[name]) else "drawn by a hash of the name"
        if chosen:
            notes.append(f"{name}: {len(chosen)} of {len(of_train)} {what}, {how}")
        else:
            warnings.append(f"no {name} set; the recipes need one")
    sets = {name: [utt for utt in utts if set_of[utt.spk_id] == name] for name in SET_NAMES}
    return {name: members for name, members in sets.items() if members}


def _phone_warnings(sets: Mapping[str, Sequence[Utterance]]) -> list[str]:
    """Phones that train lacks, a strange number of phones, and phones that look alike and differ."""
    warnings = []
    counts = {name: Counter(phone for utt in utts for phone in utt.phones) for name, utts in sets.items()}
    for name in counts.keys() - {"train"}:
        unseen = sorted(counts[name].keys() - counts.get("train", {}).keys())
        if unseen:
            warnings.append(f"phones of {name} that train does not have, and so cannot be learnt: {' '.join(unseen)}")
    num_phones = len(set().union(*counts.values()))
    if num_phones > _MANY_PHONES:
        warnings.append(f"{num_phones} different phones; are they separated by blanks, and phones rather than words?")
    alike = defaultdict(set)
    for phone in set().union(*counts.values()):
        seen = "".join(c for c in unicodedata.normalize("NFC", phone) if unicodedata.category(c) != "Cf")
        alike[seen].add(phone)
    for forms in alike.values():
        if len(forms) > 1:
            written = ", ".join(" ".join(f"U+{ord(c):04X}" for c in form) for form in sorted(forms))
            warnings.append(
                f"phones that look alike but are composed differently ({min(forms)}): {written}; write one way"
            )
    return warnings
