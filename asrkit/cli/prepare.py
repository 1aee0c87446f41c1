"""`asrkit prepare NAME`: a corpus to the data directories train, dev and test and the token table beside them.

A corpus has two functions here, one for its own options and one that reads it, and a row in `_CORPORA`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.cli.options import add_force, add_nj
from asrkit.corpora import farsdat, mini, own, speechocean762, timit
from asrkit.corpora.common import Corpus
from asrkit.corpora.speaker_split import DEFAULT_SHARE
from asrkit.errors import AudioError, DataError, location, raise_if_any
from asrkit.formats.data_dir import write_data_dir
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import file_signature, is_current, write_stamp
from asrkit.lang.tokens import TokenTable
from asrkit.types import Utterance

SET_NAMES = ("train", "dev", "test")
_STAMP = ".prepare.stamp"


def _mini_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=int,
        default=mini.DEFAULT_SEED,
        metavar="N",
        help=f"what to make it from (default: {mini.DEFAULT_SEED})",
    )


def _read_mini(args: argparse.Namespace) -> Corpus:
    if mini.make_corpus(args.corpus, seed=args.seed, num_jobs=args.nj, force=args.force):
        print(f"{args.corpus}: made; synthetic, so error rates on it say nothing about FarsDat", file=sys.stderr)
    return Corpus(mini.PHONES, mini.read_corpus(args.corpus))


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _read_speechocean762(args: argparse.Namespace) -> Corpus:
    sets = speechocean762.read_corpus(args.corpus)
    return Corpus(speechocean762.PHONES, sets, warnings=speechocean762.count_notes(sets))


def _timit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--phones",
        type=int,
        choices=sorted(timit.INVENTORIES, reverse=True),
        default=48,
        help="train on the 61 phones of the transcription, or on 48 or 39 folded from them (default: 48)",
    )
    parser.add_argument(
        "--test",
        choices=timit.TEST_SETS,
        default="core",
        help="test on the core test set (192 utterances), or on all of TEST with SA sentences (1680) (default: core)",
    )


def _read_timit(args: argparse.Namespace) -> Corpus:
    return timit.read_corpus(args.corpus, num_phones=args.phones, test=args.test)


def _farsdat_options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--split",
        choices=farsdat.SPLITS,
        default=farsdat.DEFAULT_SPLIT,
        help=f"how much of the corpus is test (default: {farsdat.DEFAULT_SPLIT})",
    )
    how.add_argument(
        "--speaker-lists",
        type=Path,
        metavar="DIR",
        help="split by DIR's train_spk.list, dev_spk.list and test_spk.list, as the public recipe does",
    )
    parser.add_argument(
        "--by",
        choices=("speakers", "utterances"),
        default="speakers",
        help="what --split draws: whole speakers, or utterances at random, as the textbook did (default: speakers)",
    )
    parser.add_argument(
        "--sentences",
        choices=("all", "published"),
        default="all",
        help="which sentences --speaker-lists takes into dev and test: all, or the public recipe's (default: all)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=farsdat.DEFAULT_SEED,
        metavar="N",
        help=f"what --split draws from (default: {farsdat.DEFAULT_SEED})",
    )


def _read_farsdat(args: argparse.Namespace) -> Corpus:
    return farsdat.read_corpus(
        args.corpus,
        split=args.split,
        random_split=args.by == "utterances",
        speaker_lists=args.speaker_lists,
        published_sentences=args.sentences == "published",
        seed=args.seed,
    )


def _own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="the .csv or .tsv of utterances (default: the one in the corpus)"
    )
    parser.add_argument(
        "--labels",
        choices=own.LABEL_KINDS,
        help="kind of label files, where there are several (default: what is there)",
    )
    parser.add_argument("--tier", metavar="NAME", help="tier of the TextGrids that holds the phones")
    parser.add_argument(
        "--silence", metavar="SYMBOL", help="phone for a TextGrid's empty intervals (default: they are left out)"
    )
    parser.add_argument(
        "--speaker", metavar="REGEX", help="finds the speaker in a recording's path, as its first group: '^([^/]+)/'"
    )
    for name in ("dev", "test"):
        parser.add_argument(
            f"--{name}-speakers",
            metavar="WHO",
            help=f"{name}, where no column set says so: a share of the speakers (0.1), a file of them, or A,B,C "
            f"(default: {DEFAULT_SHARE})",
        )
    parser.add_argument(
        "--partial", action="store_true", help="leave out audio without labels and labels without audio, with a warning"
    )


def _read_own(args: argparse.Namespace) -> Corpus:
    return own.read_corpus(
        args.corpus,
        table=args.table,
        labels=args.labels,
        tier=args.tier,
        silence=args.silence,
        speaker=args.speaker,
        dev_speakers=args.dev_speakers,
        test_speakers=args.test_speakers,
        partial=args.partial,
        exclude=args.data,
    )


# name -> one-line help, options of its own, reader
_CORPORA = {
    "farsdat": ("FarsDat, read Persian (ELRA-S0112)", _farsdat_options, _read_farsdat),
    "mini": ("Persian speech of espeak-ng, made in --corpus when it is not there yet", _mini_options, _read_mini),
    "own": ("a directory of audio with a table of phones or with label files", _own_options, _read_own),
    "speechocean762": ("English read by Mandarin speakers (OpenSLR 101)", _no_options, _read_speechocean762),
    "timit": ("TIMIT, read American English (LDC93S1), or NLTK's sample of it", _timit_options, _read_timit),
}


def configure(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(dest="corpus_name", metavar="NAME", required=True)
    for name, (summary, add_options, read) in _CORPORA.items():
        corpus_parser = names.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        corpus_parser.set_defaults(read=read)
        corpus_parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="where the corpus is")
        corpus_parser.add_argument(
            "--data", type=Path, required=True, metavar="DIR", help="where to write train, dev, test and tokens.txt"
        )
        add_options(corpus_parser)
        add_nj(corpus_parser)
        add_force(corpus_parser)


def run(args: argparse.Namespace) -> int:
    refuse_foreign(args.data)  # before reading, which may mean making a corpus
    corpus = args.read(args)
    for note in corpus.notes:
        print(f"{args.corpus}: {note}", file=sys.stderr)
    for warning in corpus.warnings:
        print(f"asrkit prepare: warning: {args.corpus}: {warning}", file=sys.stderr)
    write_corpus(corpus, args.data, force=args.force)
    return 0


def refuse_foreign(data_dir: Path) -> None:
    """Raise DataError, a line each, for sets and a token table in `data_dir` that `write_corpus` did not write."""
    if (data_dir / _STAMP).exists():
        return
    what = "asrkit prepare did not make this, and would replace it; give another --data, or begin after this step"
    outputs = [*(data_dir / name for name in SET_NAMES), data_dir / "tokens.txt"]
    raise_if_any([f"{location(output)}{what}" for output in outputs if output.exists()], DataError)


def write_corpus(corpus: Corpus, data_dir: Path, *, force: bool = False) -> None:
    """Write a data directory for each set and the token table, unless they are up to date; print counts.

    What is there is replaced: `refuse_foreign` comes before.

    Raises:
        AudioError: files that cannot be read, a line each; nothing is written then.
        DataError: as `write_data_dir`; or `data_dir` has a set that the corpus does not give.
    """
    stamp, tokens = data_dir / _STAMP, data_dir / "tokens.txt"
    audio = sorted({utt.audio for utts in corpus.sets.values() for utt in utts})
    inputs = {
        "tokens": corpus.phones,
        "sets": {name: [dataclasses.astuple(utt) for utt in utts] for name, utts in corpus.sets.items()},
        "audio": [file_signature(path) for path in audio],
    }
    if not force and is_current(stamp, inputs, [tokens, *(data_dir / name / "text" for name in corpus.sets)]):
        print(f"{data_dir}: up to date")
        return
    raise_if_any(
        [
            f"{location(data_dir / name)}is there, but this copy of the corpus gives no {name}; remove "
            "it or change --data"
            for name in SET_NAMES
            if name not in corpus.sets and (data_dir / name).exists()
        ],
        DataError,
    )
    durations = _durations(corpus.sets) if corpus.durations is None else corpus.durations
    # From here on the stamp says only whose directory this is, and later stages miss the token table.
    with atomic_write(stamp) as stream:
        stream.write("unfinished\n")
    tokens.unlink(missing_ok=True)
    for name, utts in corpus.sets.items():
        write_data_dir(data_dir / name, utts, durations)
    TokenTable(corpus.phones).write(tokens)
    write_stamp(stamp, inputs)
    print(f"{'set':8}{'speakers':>10}{'utterances':>12}{'hours':>8}{'phones':>9}")
    for name, utts in corpus.sets.items():
        hours = sum(durations[utt.utt_id] for utt in utts) / 3600
        num_phones = sum(len(utt.phones) for utt in utts)
        print(f"{name:8}{len({utt.spk_id for utt in utts}):>10}{len(utts):>12}{hours:>8.2f}{num_phones:>9}")


def _durations(sets: Mapping[str, list[Utterance]]) -> dict[str, float]:
    """Seconds of each utterance, from its segment where it has one, else from its audio's header.

    Raises AudioError naming every file that cannot be read.
    """
    recordings: dict[str, float] = {}
    faults = []
    for entry in {utt.audio: None for utts in sets.values() for utt in utts}:
        try:
            recordings[entry] = AudioAccess().info(entry).duration
        except AudioError as error:
            faults.append(str(error))
    raise_if_any(faults, AudioError)
    return {
        utt.utt_id: (recordings[utt.audio] if utt.end is None else min(utt.end, recordings[utt.audio]))
        - (utt.start or 0.0)
        for utts in sets.values()
        for utt in utts
    }
