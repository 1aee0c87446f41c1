"""Reads the user's own corpus: a directory of audio, with a table of phones (CSV or TSV) or label files.

The whole corpus is checked, and all faults are reported together, each with file and line.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from asrkit.audio import AUDIO_ENDINGS, END_TOLERANCE, UNREADABLE_AUDIO_ENDINGS, AudioInfo, audio_info
from asrkit.audio.inputs import visible_files
from asrkit.corpora.common import SET_NAMES, Corpus
from asrkit.corpora.label_files import LABEL_ENDINGS, LABEL_READERS, LabelReader, LabelSource, label_kind
from asrkit.corpora.speaker_split import Units, is_list
from asrkit.corpora.table import Row, base_of, read_table
from asrkit.errors import AudioError, ConfigError, DataError, location, name_some, printable
from asrkit.findings import Findings
from asrkit.formats.label import Label, check_labels
from asrkit.formats.seconds import to_micros
from asrkit.lang.symbols import symbol_fault, symbol_warnings
from asrkit.types import Utterance

_MANY_PHONES = 200  # no language has this many phonemes, but a narrow transcription may

_AUDIO = AUDIO_ENDINGS | UNREADABLE_AUDIO_ENDINGS
_TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class OwnOptions:
    """How to read your own corpus.

    Attributes:
        table: the table of utterances. None takes the only .csv or .tsv file in the corpus, if there is one. Without a
            table, or without a column `phones` in it, the phones are read from label files.
        labels: the kind of label files, one of `label_files.LABEL_READERS`. None takes the only kind in the corpus.
        tier: the tier of TextGrids with the phones; see `read_textgrid_labels`.
        silence: the symbol for empty intervals of TextGrids; see `read_textgrid_labels`.
        speaker: a regular expression, which is searched in the path of the audio within the corpus. Its first group is
            the speaker. For corpora without a column `speaker`.
        dev_speakers: the speakers of dev, if the table has no column `set`: a share of the speakers (0.1 or 10%), a
            file with a speaker per line, or speakers separated by commas. None means `speaker_split.DEFAULT_SHARE`.
        test_speakers: the speakers of test, in the same form.
        partial: leave out audio without labels and labels without audio, with a warning. False: this is an error.
    """

    table: Path | None = None
    labels: str | None = None
    tier: str | None = None
    silence: str | None = None
    speaker: str | None = None
    dev_speakers: str | None = None
    test_speakers: str | None = None
    partial: bool = False

    def check(self) -> None:
        """Raise ConfigError if a value is impossible for any corpus."""
        if self.speaker is not None:
            try:
                groups = re.compile(self.speaker).groups
            except re.error as error:
                raise ConfigError(f"--speaker: {self.speaker!r} is not a regular expression ({error})") from None
            if groups < 1:
                raise ConfigError(
                    f"--speaker: {self.speaker!r} has no group; put the speaker in parentheses, as in '^([^/]+)/'"
                )
        if self.silence is not None and (fault := symbol_fault(self.silence)):
            raise ConfigError(f"--silence: {fault}")


def read_corpus(
    corpus_dir: str | Path, options: OwnOptions = OwnOptions(), *, exclude: str | Path | None = None
) -> Corpus:
    """Read a directory of audio and its labels.

    Args:
        corpus_dir: the directory. All audio and label files below it are used.
        options: how to read it.
        exclude: a directory below `corpus_dir` that does not belong to the corpus.

    Raises:
        DataError: the corpus has faults; a line for each.
        ConfigError: options contradict each other or the corpus.
    """
    corpus_dir = Path(corpus_dir)
    options.check()
    if not corpus_dir.is_dir():
        raise DataError(f"{location(corpus_dir)}no such directory; expected the corpus's audio and labels")
    findings = Findings()
    files = _find_files(corpus_dir, exclude, findings)
    listing = _list_recordings(corpus_dir, files, options, findings)
    listing.rows = _with_speakers(listing, corpus_dir, options.speaker, findings)
    listing.rows = _with_ids(listing.rows, findings)
    info = _read_audio_info(listing.rows, findings)
    labels = _read_labels(corpus_dir, files.labels, listing, info, options, findings)
    if options.partial:
        listing.rows = [row for row in listing.rows if row.utt_id in labels]
        if listing.missing:
            findings.warn(
                f"left out: {len(listing.missing)} recordings without labels, labels without audio, or files not in "
                "the table"
            )
            findings.warnings += listing.missing
    else:
        findings.errors += listing.missing
    utts, durations = _utterances(listing.rows, labels, info, findings)
    _check_sexes(listing.rows, findings)
    findings.raise_errors()
    if not utts:
        raise DataError(f"{location(corpus_dir)}no recording has labels; put them beside the audio, or write a table")
    sets = _split(listing, utts, corpus_dir, options, findings)
    _check_speakers(sets, findings)
    _check_phones(sets, findings)
    phones = sorted({phone for utt in utts for phone in utt.phones})
    return Corpus(phones, sets, durations, findings.warnings, findings.notes)


@dataclass(frozen=True)
class _Files:
    """The files of a directory, sorted."""

    audio: list[Path]
    labels: list[Path]
    tables: list[Path]


@dataclass
class _Listing:
    """The recordings of a corpus, or the utterances in its table.

    Attributes:
        rows: the recordings or utterances.
        table: the path of the table, if there is one.
        columns: the columns of the table.
        missing: one line for each audio file without labels, and for labels without audio.
    """

    rows: list[Row]
    table: Path | None = None
    columns: frozenset[str] = frozenset()
    missing: list[str] = field(default_factory=list)


def _list_recordings(corpus_dir: Path, files: _Files, options: OwnOptions, findings: Findings) -> _Listing:
    path = options.table
    if path is None and len(files.tables) > 1:
        names = name_some([table.name for table in files.tables])
        raise ConfigError(f"{location(corpus_dir)}{len(files.tables)} tables: {names}; give one: --table")
    if path is None and files.tables:
        path = files.tables[0]
    if path is None:
        bases = _unique_audio(files.audio, corpus_dir, findings)
        listing = _Listing([Row(location(audio), base, audio) for base, audio in bases])
    else:
        table = read_table(path, corpus_dir, findings)
        listing = _Listing(table.rows, path, table.columns, table.missing)
        for audio in files.audio if table.named is not None else ():
            if os.path.realpath(audio) not in (table.named or ()):
                listing.missing.append(f"{location(audio)}not in {path}; add a row for it")
    if not files.audio and not listing.rows and not findings.errors:
        findings.error("no audio files in it", corpus_dir)
    return listing


def _read_labels(
    corpus_dir: Path,
    files: Sequence[Path],
    listing: _Listing,
    info: Mapping[Path, AudioInfo],
    options: OwnOptions,
    findings: Findings,
) -> dict[str, list[Label]]:
    """The labels by utterance id, from the table or from label files."""
    table = listing.table
    if table is not None and "phones" in listing.columns:
        if (options.labels, options.tier, options.silence) != (None, None, None):
            raise ConfigError(
                f"{location(table)}has a column phones; --labels, --tier and --silence are for label files"
            )
        if files:
            findings.note(f"{len(files)} label files are not used, since {table.name} has a column phones")
        return {row.utt_id: [Label(phone, None, None, 0) for phone in row.phones] for row in listing.rows}
    if listing.rows and not files:
        lacking = "no table" if table is None else f"no column phones in {table.name}"
        findings.error(f"{lacking} and no label files ({' '.join(LABEL_ENDINGS)}); give either", corpus_dir)
        return {}
    if listing.columns & {"start", "end"}:
        findings.error("columns start and end need a column phones; labels are of whole recordings", table, 1)
    reader = _choose_reader(corpus_dir, files, options)
    if reader is None:
        return {}
    of_kind = [path for path in files if label_kind(path) == reader.kind]
    sources = [source for path in of_kind for source in reader.sources(path, base_of(path, corpus_dir), findings)]
    labels = _assign_labels(sources, listing, info, reader.kind, findings)
    findings.notes += reader.notes()
    return labels


def _choose_reader(corpus_dir: Path, files: Iterable[Path], options: OwnOptions) -> LabelReader | None:
    """The reader for the chosen kind of label files, or the only kind; None if there are no label files."""
    kinds = Counter(kind for path in files if (kind := label_kind(path)) is not None)
    if options.labels is None and len(kinds) > 1:
        counts = ", ".join(f"{number} .{kind}" for kind, number in sorted(kinds.items()))
        raise ConfigError(f"{location(corpus_dir)}label files of several kinds: {counts}; choose one with --labels")
    chosen = options.labels or next(iter(kinds), None)
    if chosen is not None:
        return LABEL_READERS[chosen](options.tier, options.silence)
    if options.tier is not None or options.silence is not None:
        raise ConfigError("--tier and --silence are for TextGrids; there are no label files")
    return None


def _assign_labels(
    sources: Sequence[LabelSource],
    listing: _Listing,
    info: Mapping[Path, AudioInfo],
    kind: str,
    findings: Findings,
) -> dict[str, list[Label]]:
    """The labels by utterance id. Utterances without labels, and labels without audio, are added to the listing."""
    row_of = _match(listing.rows, [source.name for source in sources])
    labels_of: dict[str, list[Label]] = {}
    taken: dict[str, Path] = {}
    for source in sources:
        row = row_of.get(source.name)
        if row is None:
            where = location(source.path, source.line)
            listing.missing.append(f"{where}no audio for the labels of {source.name}")
            continue
        if row.utt_id in taken:
            findings.error(
                f"labels of {row.audio.name} a second time, after {taken[row.utt_id]}", source.path, source.line
            )
            continue
        taken[row.utt_id] = source.path
        audio = info.get(row.audio)
        num_errors = len(findings.errors)
        labels = source.read(None if audio is None else audio.sample_rate)
        if not labels and len(findings.errors) == num_errors:
            findings.error("no phones in it; label the recording or remove both", source.path)
        length = math.inf if audio is None else audio.duration
        labels_of[row.utt_id] = check_labels(labels, source.path, findings, row.audio.name, length)
    for row in listing.rows:
        if row.utt_id not in taken:
            listing.missing.append(f"{row.where}no .{kind} labels for {row.audio.name}")
    return labels_of


def _match(rows: Sequence[Row], names: Sequence[str]) -> dict[str, Row]:
    """The row for each name: it has the same path, or else the same last part if that is unique."""
    by_base = {row.base: row for row in rows} | {row.utt_id: row for row in rows}
    rows_of_stem: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        rows_of_stem[row.base.rpartition("/")[2]].append(row)
    num_names = Counter(name.rpartition("/")[2] for name in names)
    row_of = {}
    for name in names:
        stem = name.rpartition("/")[2]
        if name in by_base:
            row_of[name] = by_base[name]
        elif len(rows_of_stem.get(stem, ())) == 1 and num_names[stem] == 1:
            row_of[name] = rows_of_stem[stem][0]
    return row_of


def _find_files(corpus_dir: Path, exclude: str | Path | None, findings: Findings) -> _Files:
    """The audio and label files below the corpus, and the tables directly in it. Hidden files are left out."""
    files = _Files([], [], [])
    for path in visible_files(corpus_dir, findings, exclude):
        ending = path.suffix.lower()
        if ending in (*_AUDIO, *LABEL_ENDINGS, *_TABLES) and printable(path) != str(path):
            findings.error("a file name that is not UTF-8 or holds a control character; rename it", path)
        elif ending in _AUDIO:
            files.audio.append(path)
        elif ending in LABEL_ENDINGS:
            files.labels.append(path)
        elif ending in _TABLES and path.parent == corpus_dir:
            files.tables.append(path)
    return _Files(sorted(files.audio), sorted(files.labels), files.tables)


def _unique_audio(audio: Iterable[Path], corpus_dir: Path, findings: Findings) -> Iterator[tuple[str, Path]]:
    taken: dict[str, Path] = {}
    for path in audio:
        base = base_of(path, corpus_dir)
        if base in taken:
            findings.error(f"the same recording as {taken[base].name}? remove one of them, or write a table", path)
        else:
            taken[base] = path
            yield base, path


def _with_speakers(listing: _Listing, corpus_dir: Path, pattern: str | None, findings: Findings) -> list[Row]:
    if "speaker" in listing.columns:
        if pattern is not None:
            raise ConfigError("--speaker: the table has a column speaker; leave out one of them")
        return listing.rows
    if pattern is None:
        if listing.rows:
            findings.note(
                "no speakers are given (column speaker, or --speaker): every recording counts as a separate speaker, "
                "so CMVN per speaker is per recording, and a random split may put one voice into two sets"
            )
        return [replace(row, spk_id=_clean(row.base)) for row in listing.rows]
    rows = []
    for row in listing.rows:
        path = row.audio.relative_to(corpus_dir) if row.audio.is_relative_to(corpus_dir) else row.audio
        match = re.search(pattern, path.as_posix())
        if match is None or not match[1]:
            findings.error(f"{row.where}--speaker {pattern!r} does not find the speaker in {path.as_posix()}")
        rows.append(replace(row, spk_id=_clean((match and match[1]) or row.base)))
    return rows


def _clean(text: str) -> str:
    """A path as an id, without slashes and white space."""
    return "_".join(text.replace("/", "-").split())


def _with_ids(rows: Iterable[Row], findings: Findings) -> list[Row]:
    """Give each row without an utterance id the id `speaker-path`. Of rows with the same id, the first is kept."""
    row_of: dict[str, Row] = {}
    for row in rows:
        utt_id = row.utt_id or _make_id(row)
        first = row_of.setdefault(utt_id, row)
        if first is row:
            row_of[utt_id] = replace(row, utt_id=utt_id)
        else:
            findings.error(f"{row.where}utterance {utt_id} a second time, first at {first.where.rstrip(': ')}")
    return list(row_of.values())


def _make_id(row: Row) -> str:
    utt_id = _clean(row.base)
    if not utt_id.startswith(row.spk_id):  # Kaldi's tools need ids in the order of speakers
        rest = [part for part in row.base.split("/") if part != row.spk_id]
        utt_id = f"{row.spk_id}-{_clean('/'.join(rest))}"
    if row.start is not None or row.end is not None:
        end = "end" if row.end is None else f"{round(1000 * row.end):07d}"
        utt_id += f"-{round(1000 * (row.start or 0)):07d}-{end}"
    return utt_id


def _read_audio_info(rows: Iterable[Row], findings: Findings) -> dict[Path, AudioInfo]:
    """The content of the headers of all readable audio files."""
    info: dict[Path, AudioInfo] = {}
    broken = set()
    for row in rows:
        if row.audio in info or row.audio in broken:
            continue
        where = "" if row.where == location(row.audio) else row.where
        try:
            info[row.audio] = audio_info(row.audio)
        except AudioError as error:
            for fault in str(error).split("\n"):
                findings.error(f"{where}{fault}")
            broken.add(row.audio)
            continue
        num_channels = info[row.audio].num_channels
        if num_channels > 1:
            findings.error(f"{where or location(row.audio)}{num_channels} channels in {row.audio.name}; make it mono")
    return info


def _utterances(
    rows: Iterable[Row],
    labels: Mapping[str, list[Label]],
    info: Mapping[Path, AudioInfo],
    findings: Findings,
) -> tuple[list[Utterance], dict[str, float]]:
    utts: list[Utterance] = []
    durations: dict[str, float] = {}
    recordings: dict[str, Path] = {}
    for row in rows:
        if row.audio not in info or not labels.get(row.utt_id):
            continue
        length = info[row.audio].duration
        is_part = row.start is not None or row.end is not None
        start, end = row.start or 0.0, length if row.end is None else row.end
        if end > length + END_TOLERANCE or to_micros(start) >= to_micros(min(end, length)):
            findings.error(f"{row.where}{start:.3f} to {end:.3f} s; {row.audio.name} ends at {length:.3f} s")
            continue
        rec_id = _clean(row.base) if is_part else row.utt_id
        for name in dict.fromkeys((row.utt_id, row.spk_id, rec_id)):
            if not name or name.startswith("\ufeff"):  # it would be lost at the beginning of a file
                findings.error(f"{row.where}the id {name!r} is empty or begins with a byte-order mark; change it")
        if recordings.setdefault(rec_id, row.audio) != row.audio:
            findings.error(f"{row.where}recording {rec_id} is {recordings[rec_id]} already; rename one of the files")
        phones = labels[row.utt_id]
        times = [time for label in phones if (time := label.time) is not None]
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


def _check_sexes(rows: Iterable[Row], findings: Findings) -> None:
    """Report, once, each speaker with two sexes."""
    sexes: dict[str, Row] = {}
    noted = set()
    for row in rows:
        if row.sex is None:
            continue
        first = sexes.setdefault(row.spk_id, row)
        if row.sex != first.sex and row.spk_id not in noted:
            noted.add(row.spk_id)
            findings.error(
                f"{row.where}speaker {row.spk_id} is {row.sex}, but {first.sex} at {first.where.rstrip(': ')}"
            )


def _split(
    listing: _Listing, utts: Sequence[Utterance], corpus_dir: Path, options: OwnOptions, findings: Findings
) -> dict[str, list[Utterance]]:
    """The utterances of each set, by the column `set`. Sets that are not in it are taken from train.

    Whole speakers are taken, or utterances if there are too few speakers.
    """
    set_of = {row.utt_id: row.set_name or "train" for row in listing.rows}
    named = {row.set_name for row in listing.rows} - {""}
    wanted = {"test": options.test_speakers, "dev": options.dev_speakers}
    for name, value in wanted.items():
        if value is not None and name in named:
            raise ConfigError(f"--{name}-speakers: the column set gives {name} already; leave out one of them")
    wanted = {name: value for name, value in wanted.items() if name not in named}
    of_train = [utt for utt in utts if set_of[utt.utt_id] == "train"]
    source = listing.table or corpus_dir
    if not of_train:
        raise ConfigError(f"{location(source)}no row has train in the column set; expected at least one")
    has_speakers = "speaker" in listing.columns or options.speaker is not None
    what = "speakers" if has_speakers else "recordings (speakers are not known)"
    units = Units(what, {utt.spk_id for utt in of_train}, source)
    by_speaker = not units.too_few_for(wanted)
    if not by_speaker:
        findings.note(
            f"{len(units.names)} {units.what} are too few to hold out whole ones; the utterances are split instead"
        )
        units = Units("utterances", {utt.utt_id for utt in of_train}, source)
    held_out = units.hold_out(wanted, known={utt.spk_id for utt in utts})
    for name, chosen in held_out.items():
        set_of |= {utt.utt_id: name for utt in of_train if (utt.spk_id if by_speaker else utt.utt_id) in chosen}
        how = "as listed" if is_list(wanted[name]) else "drawn by a hash of the name"
        if chosen:
            findings.note(f"{name}: {len(chosen)} of {len(units.names)} {units.what}, {how}")
        else:
            findings.warn(f"no {name} set; the recipes need one")
    sets = {name: [utt for utt in utts if set_of[utt.utt_id] == name] for name in SET_NAMES}
    return {name: members for name, members in sets.items() if members}


def _check_speakers(sets: Mapping[str, Sequence[Utterance]], findings: Findings) -> None:
    """Warn about speakers that are in two sets."""
    speakers = {name: {utt.spk_id for utt in utts} for name, utts in sets.items()}
    for known, name in (("train", "dev"), ("train", "test"), ("dev", "test")):
        both = sorted(speakers.get(known, set()) & speakers.get(name, set()))
        if known == "dev":  # speakers of train were named before
            both = [spk for spk in both if spk not in speakers["train"]]
        if not both:
            continue
        meaning = (
            "its error rate is that of voices known from training, not of new ones"
            if known == "train"
            else f"settings are tuned to voices of {name}, which makes its error rate too low"
        )
        findings.warn(
            f"{len(both)} of {len(speakers[name])} speakers of {name} are in {known}, too ({name_some(both)}): "
            f"{meaning}"
        )


def _check_phones(sets: Mapping[str, Sequence[Utterance]], findings: Findings) -> None:
    """Warn about phones that train lacks, too many different phones, and symbols that look alike."""
    counts = {name: Counter(phone for utt in utts for phone in utt.phones) for name, utts in sets.items()}
    for name in [name for name in counts if name != "train"]:
        unseen = sorted(counts[name].keys() - counts.get("train", {}).keys())
        if unseen:
            findings.warn(f"phones of {name} that train does not have, and so cannot be learnt: {name_some(unseen)}")
    phones = set[str]().union(*counts.values())
    if len(phones) > _MANY_PHONES:
        findings.warn(f"{len(phones)} different phones; are they separated by blanks, and phones rather than words?")
    findings.warnings += symbol_warnings({"": phones})
