"""Stage 0: from a corpus to the data directories train, dev and test and the token table.

There is one function per corpus. All follow the same rules. If the corpus has a fault, nothing is written. If nothing
has changed, nothing is written again. Files of other tools are never replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asrkit.audio import AudioAccess
from asrkit.corpora import farsdat, mini, own, speechocean762, timit
from asrkit.corpora.common import SET_NAMES, Corpus
from asrkit.corpora.farsdat import FarsdatOptions
from asrkit.corpora.own import OwnOptions
from asrkit.errors import AudioError
from asrkit.findings import Findings
from asrkit.formats.corpus_info import CORPUS_INFO, read_corpus_info, write_corpus_info
from asrkit.formats.data_dir import wav_rows, write_data_dir
from asrkit.io.atomic import atomic_write
from asrkit.io.lock import lock_dir
from asrkit.io.scp import read_table, write_table
from asrkit.io.stamp import Stamp, changed_outputs, changing, is_being_changed
from asrkit.lang.tokens import TokenTable
from asrkit.types import Utterance

_STAMP = ".prepare.stamp"

Report = Callable[[Corpus], None]


@dataclass(frozen=True)
class SetCounts:
    """The content of one data directory."""

    num_speakers: int
    num_utterances: int
    num_seconds: float
    num_phones: int


@dataclass(frozen=True)
class Preparation:
    """The result of preparing a corpus.

    Attributes:
        up_to_date: nothing had changed, and nothing was written.
        counts: name of each set that was written -> its content.
        warnings: a line for each deviation that does not prevent use of the corpus.
        notes: a line for each fact that was found or chosen.
    """

    up_to_date: bool
    counts: Mapping[str, SetCounts] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def prepare_mini(
    corpus_dir: str | Path,
    data_dir: str | Path,
    *,
    seed: int = mini.DEFAULT_SEED,
    num_jobs: int = 1,
    force: bool = False,
    report: Report | None = None,
) -> Preparation:
    """Synthesise the mini corpus in `corpus_dir`, unless it exists, and write data directories to `data_dir`.

    Args:
        corpus_dir, data_dir: the corpus, and the directory of the data directories.
        seed: the seed of all random values of the corpus.
        num_jobs: the number of processes that synthesise.
        force: write again even if everything is up to date.
        report: is called with the corpus, its warnings and notes before anything is written.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        DataError: the synthesiser spoke other phones than requested; or `corpus_dir` or `data_dir` contains something
            that this function did not make.
        AudioError: audio cannot be read; one line per file.
    """

    def read() -> Corpus:
        made = mini.make_corpus(corpus_dir, seed=seed, num_jobs=num_jobs, force=force)
        notes = ["made; synthetic, so error rates on it say nothing about FarsDat"] if made else []
        return Corpus(mini.PHONES, mini.read_corpus(corpus_dir), notes=notes, info=mini.INFO)

    # The lock also covers reading, unless nobody can write to the corpus.
    is_fixed = os.path.isdir(corpus_dir) and not os.access(corpus_dir, os.W_OK)
    with contextlib.nullcontext() if is_fixed else lock_dir(corpus_dir, "prepare"):
        return _prepare(read, data_dir, force, report)


def prepare_speechocean762(
    corpus_dir: str | Path, data_dir: str | Path, *, force: bool = False, report: Report | None = None
) -> Preparation:
    """Write the data directories of speechocean762. `force`, `report` and errors are as for `prepare_timit`."""

    def read() -> Corpus:
        sets = speechocean762.read_corpus(corpus_dir)
        notes = speechocean762.count_notes(sets)
        return Corpus(speechocean762.PHONES, sets, warnings=notes, info=speechocean762.INFO)

    return _prepare(read, data_dir, force, report)


def prepare_timit(
    corpus_dir: str | Path,
    data_dir: str | Path,
    *,
    num_phones: int = timit.DEFAULT_NUM_PHONES,
    test: str = timit.DEFAULT_TEST_SET,
    force: bool = False,
    report: Report | None = None,
) -> Preparation:
    """Write the data directories of TIMIT.

    Args:
        num_phones, test: as in `timit.read_corpus`.
        force: write again even if everything is up to date.
        report: is called with the corpus, its warnings and notes before anything is written.

    Raises:
        DataError: the corpus has faults, with a line per fault; or `data_dir` holds something that this function did
            not make.
        AudioError: audio cannot be read, with a line per file.
    """
    return _prepare(lambda: timit.read_corpus(corpus_dir, num_phones=num_phones, test=test), data_dir, force, report)


def prepare_farsdat(
    corpus_dir: str | Path,
    data_dir: str | Path,
    options: FarsdatOptions = FarsdatOptions(),
    *,
    force: bool = False,
    report: Report | None = None,
) -> Preparation:
    """Write the data directories of FarsDat. `force`, `report` and errors are as for `prepare_timit`.

    Raises also ConfigError if options contradict each other.
    """
    return _prepare(lambda: farsdat.read_corpus(corpus_dir, options), data_dir, force, report)


def prepare_own(
    corpus_dir: str | Path,
    data_dir: str | Path,
    options: OwnOptions = OwnOptions(),
    *,
    force: bool = False,
    report: Report | None = None,
) -> Preparation:
    """Write the data directories of your own corpus. `force`, `report` and errors are as for `prepare_timit`.

    If `data_dir` is inside `corpus_dir`, it does not count as a part of the corpus. Raises also ConfigError if options
    contradict each other or do not fit the corpus.
    """
    return _prepare(lambda: own.read_corpus(corpus_dir, options, exclude=data_dir), data_dir, force, report)


def _prepare(read: Callable[[], Corpus], data_dir: str | Path, force: bool, report: Report | None) -> Preparation:
    data_dir = Path(data_dir)
    _refuse_foreign(data_dir)  # before reading, which can include making the corpus
    corpus = read()
    if report is not None:
        report(corpus)
    counts = _write_corpus(corpus, data_dir, force)
    return Preparation(counts is None, counts or {}, tuple(corpus.warnings), tuple(corpus.notes))


def _refuse_foreign(data_dir: Path) -> None:
    """Raise DataError for sets and a token table in `data_dir` that were not written here; one line each."""
    if (data_dir / _STAMP).exists():
        return
    findings = Findings()
    for output in (*(data_dir / name for name in SET_NAMES), data_dir / "tokens.txt"):
        if output.exists():
            findings.error(
                "asrkit prepare did not make this, and would replace it; give another --data, or begin after this step",
                output,
            )
    findings.raise_errors()


def _write_corpus(corpus: Corpus, data_dir: Path, force: bool) -> dict[str, SetCounts] | None:
    """Write a data directory for each set, and the token table. Returns None if they are up to date.

    Existing files are replaced.

    Raises:
        AudioError: files cannot be read, one line each. Then nothing is written.
        DataError: as `write_data_dir`; or `data_dir` has a set that the corpus lacks, or files that were changed since
            they were written. `force` replaces the latter.
    """
    durations = _durations(corpus.sets) if corpus.durations is None else corpus.durations
    stamp, tokens = Stamp(data_dir / _STAMP, _inputs(corpus, durations)), data_dir / "tokens.txt"
    if not force and stamp.is_current(while_changing=True):
        _settle(data_dir, corpus)
        return None
    findings = Findings()
    for path in [] if force else changed_outputs(stamp.path):
        if path.exists():
            findings.error(
                "is not as asrkit prepare wrote it; give --force to write all anew, or begin after this step to keep "
                "your changes",
                path,
            )
    for name in SET_NAMES:
        if (data_dir / name).is_symlink():
            findings.error(
                "a symbolic link, and prepare would replace what it leads to; remove it; all of --data may be a link",
                data_dir / name,
            )
        if name not in corpus.sets and (data_dir / name).exists():
            findings.error(
                f"exists, but this copy of the corpus has no {name}; remove it or change --data", data_dir / name
            )
    findings.raise_errors()
    with _locked(data_dir, corpus.sets):
        # From now on the stamp only says who made this directory. Without a token table later stages do not start.
        with atomic_write(stamp.path) as stream:
            stream.write("unfinished\n")
        tokens.unlink(missing_ok=True)
        with stamp.making(is_removed=False):
            for name, utts in corpus.sets.items():
                write_data_dir(data_dir / name, utts, durations)
            TokenTable(corpus.phones).write(tokens)
            write_corpus_info(data_dir, corpus.info)
    return {name: _count(utts, durations) for name, utts in corpus.sets.items()}


@contextlib.contextmanager
def _locked(data_dir: Path, names: Iterable[str]) -> Iterator[None]:
    """Lock the data directory and the sets of these names during a `with` block."""
    with contextlib.ExitStack() as locks:
        for directory in (data_dir, *(data_dir / name for name in names if (data_dir / name).exists())):
            locks.enter_context(lock_dir(directory, "prepare"))
        yield


def _settle(data_dir: Path, corpus: Corpus) -> None:
    """Correct the paths of moved audio and the description of the corpus in a data directory that is up to date."""
    tables = {data_dir / name / "wav.scp": wav_rows(utts) for name, utts in corpus.sets.items()}
    moved = [table for table, rows in tables.items() if read_table(table) != rows]
    is_known = read_corpus_info(data_dir) == corpus.info
    if not moved and is_known and not is_being_changed(data_dir / _STAMP):
        return
    names = [*(str(table.relative_to(data_dir)) for table in tables), CORPUS_INFO]
    with _locked(data_dir, corpus.sets), changing(data_dir / _STAMP, names):
        for table in moved:
            write_table(table, tables[table])
        if not is_known:
            write_corpus_info(data_dir, corpus.info)


def _inputs(corpus: Corpus, durations: Mapping[str, float]) -> dict[str, Any]:
    """Everything on which the data directories depend, except the place of the audio."""
    return {
        "tokens": corpus.phones,
        "sets": {
            name: [repr(dataclasses.replace(utt, audio="")) for utt in utts] for name, utts in corpus.sets.items()
        },
        "durations": dict(durations),
    }


def _count(utts: Iterable[Utterance], durations: Mapping[str, float]) -> SetCounts:
    utts = list(utts)
    return SetCounts(
        num_speakers=len({utt.spk_id for utt in utts}),
        num_utterances=len(utts),
        num_seconds=sum(durations[utt.utt_id] for utt in utts),
        num_phones=sum(len(utt.phones) for utt in utts),
    )


def _durations(sets: Mapping[str, Iterable[Utterance]]) -> dict[str, float]:
    """Seconds of each utterance, from its segment if it has one, otherwise from the header of its audio.

    Raises AudioError, with all files that cannot be read.
    """
    access, recordings, findings = AudioAccess(), dict[str, float](), Findings()
    all_utts = [utt for utts in sets.values() for utt in utts]
    for entry in dict.fromkeys(utt.audio for utt in all_utts):
        try:
            recordings[entry] = access.info(entry).duration
        except AudioError as error:
            findings.error(str(error))
    findings.raise_errors(AudioError)
    durations = {}
    for utt in all_utts:
        length = recordings[utt.audio]
        durations[utt.utt_id] = (length if utt.end is None else min(utt.end, length)) - (utt.start or 0.0)
    return durations
