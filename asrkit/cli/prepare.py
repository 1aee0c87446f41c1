"""`asrkit prepare NAME`: a corpus to the data directories train, dev and test and the token table beside them.

A corpus has two functions here, one for its own options and one that calls its stage, and a row in `_CORPORA`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from asrkit.cli.options import add_force, add_nj, print_warnings, whole_number
from asrkit.corpora import farsdat, mini, timit
from asrkit.corpora.common import Corpus
from asrkit.corpora.farsdat import FarsdatOptions
from asrkit.corpora.label_files import LABEL_READERS
from asrkit.corpora.own import OwnOptions
from asrkit.corpora.speaker_split import DEFAULT_SHARE
from asrkit.stages import preparation
from asrkit.stages.preparation import Preparation, Report


def _mini_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=mini.DEFAULT_SEED,
        metavar="N",
        help=f"what to make it from (default: {mini.DEFAULT_SEED})",
    )


def _prepare_mini(args: argparse.Namespace, report: Report) -> Preparation:
    return preparation.prepare_mini(
        args.corpus, args.data, seed=args.seed, num_jobs=args.nj, force=args.force, report=report
    )


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _prepare_speechocean762(args: argparse.Namespace, report: Report) -> Preparation:
    return preparation.prepare_speechocean762(args.corpus, args.data, force=args.force, report=report)


def _timit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--phones",
        type=whole_number,
        choices=sorted(timit.INVENTORIES, reverse=True),
        default=timit.DEFAULT_NUM_PHONES,
        help="train on the 61 phones of the transcription, or on 48 or 39 folded from them (default: 48)",
    )
    parser.add_argument(
        "--test",
        choices=timit.TEST_SETS,
        default=timit.DEFAULT_TEST_SET,
        help="test on the core test set (192 utterances), or on all of TEST with SA sentences (1680) (default: core)",
    )


def _prepare_timit(args: argparse.Namespace, report: Report) -> Preparation:
    return preparation.prepare_timit(
        args.corpus, args.data, num_phones=args.phones, test=args.test, force=args.force, report=report
    )


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
        type=whole_number,
        default=farsdat.DEFAULT_SEED,
        metavar="N",
        help=f"what --split draws from (default: {farsdat.DEFAULT_SEED})",
    )


def _prepare_farsdat(args: argparse.Namespace, report: Report) -> Preparation:
    options = FarsdatOptions(
        split=args.split,
        random_split=args.by == "utterances",
        speaker_lists=args.speaker_lists,
        published_sentences=args.sentences == "published",
        seed=args.seed,
    )
    return preparation.prepare_farsdat(args.corpus, args.data, options, force=args.force, report=report)


def _own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="the .csv or .tsv of utterances (default: the one in the corpus)"
    )
    parser.add_argument(
        "--labels",
        choices=[*LABEL_READERS],
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


def _prepare_own(args: argparse.Namespace, report: Report) -> Preparation:
    options = OwnOptions(
        table=args.table,
        labels=args.labels,
        tier=args.tier,
        silence=args.silence,
        speaker=args.speaker,
        dev_speakers=args.dev_speakers,
        test_speakers=args.test_speakers,
        partial=args.partial,
    )
    return preparation.prepare_own(args.corpus, args.data, options, force=args.force, report=report)


# name -> one-line help, options of its own, stage
_CORPORA = {
    "farsdat": ("FarsDat, read Persian (ELRA-S0112)", _farsdat_options, _prepare_farsdat),
    "mini": ("Persian speech of espeak-ng, made in --corpus when it is not there yet", _mini_options, _prepare_mini),
    "own": ("a directory of audio with a table of phones or with label files", _own_options, _prepare_own),
    "speechocean762": ("English read by Mandarin speakers (OpenSLR 101)", _no_options, _prepare_speechocean762),
    "timit": ("TIMIT, read American English (LDC93S1), or NLTK's sample of it", _timit_options, _prepare_timit),
}


def configure(parser: argparse.ArgumentParser) -> None:
    names = parser.add_subparsers(dest="corpus_name", metavar="NAME", required=True)
    for name, (summary, add_options, prepare) in _CORPORA.items():
        corpus_parser = names.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        corpus_parser.set_defaults(prepare=prepare)
        corpus_parser.add_argument("--corpus", type=Path, required=True, metavar="DIR", help="where the corpus is")
        corpus_parser.add_argument(
            "--data", type=Path, required=True, metavar="DIR", help="where to write train, dev, test and tokens.txt"
        )
        add_options(corpus_parser)
        add_nj(corpus_parser)
        add_force(corpus_parser)


def run(args: argparse.Namespace) -> int:
    preparation = args.prepare(args, partial(_report, args.corpus))
    if preparation.up_to_date:
        print(f"{args.data}: up to date")
        return 0
    print(f"{'set':8}{'speakers':>10}{'utterances':>12}{'hours':>8}{'phones':>9}")
    for name, counts in preparation.counts.items():
        hours = counts.num_seconds / 3600
        print(f"{name:8}{counts.num_speakers:>10}{counts.num_utterances:>12}{hours:>8.2f}{counts.num_phones:>9}")
    return 0


def _report(corpus_dir: Path, corpus: Corpus) -> None:
    for note in corpus.notes:
        print(f"{corpus_dir}: {note}", file=sys.stderr)
    print_warnings("prepare", (f"{corpus_dir}: {warning}" for warning in corpus.warnings))
