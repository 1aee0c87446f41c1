"""`asrkit prepare NAME`: make the data directories train, dev and test and the token table from a corpus.

Each corpus has two functions here, one for its own options and one that calls its stage, and a row in `_CORPORA`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from asrkit.cli.help_text import HelpFormatter, examples
from asrkit.cli.options import add, add_nj, print_warnings
from asrkit.corpora import farsdat, mini, timit
from asrkit.corpora.common import Corpus
from asrkit.corpora.farsdat import FarsdatOptions
from asrkit.corpora.label_files import LABEL_READERS
from asrkit.corpora.own import OwnOptions
from asrkit.corpora.speaker_split import DEFAULT_SHARE
from asrkit.io.tell import tell
from asrkit.stages import preparation
from asrkit.stages.preparation import Preparation, Report


def _mini_options(parser: argparse.ArgumentParser) -> None:
    add(parser, "--seed", "The corpus is made from it", default=mini.DEFAULT_SEED)


def _prepare_mini(args: argparse.Namespace, report: Report) -> Preparation:
    return preparation.prepare_mini(
        args.corpus, args.out, seed=args.seed, num_jobs=args.nj, force=args.force, report=report
    )


def _no_options(parser: argparse.ArgumentParser) -> None:
    pass


def _prepare_speechocean762(args: argparse.Namespace, report: Report) -> Preparation:
    return preparation.prepare_speechocean762(args.corpus, args.out, force=args.force, report=report)


def _timit_options(parser: argparse.ArgumentParser) -> None:
    add(
        parser,
        "--num-phones",
        "61 are those of the transcription; 48 and 39 are folded from them",
        choices=sorted(timit.INVENTORIES, reverse=True),
        default=timit.DEFAULT_NUM_PHONES,
    )
    add(
        parser,
        "--test-set",
        "core has 192 utterances; full is all of TEST, 1680 utterances",
        choices=timit.TEST_SETS,
        default=timit.DEFAULT_TEST_SET,
    )


def _prepare_timit(args: argparse.Namespace, report: Report) -> Preparation:
    return preparation.prepare_timit(
        args.corpus, args.out, num_phones=args.num_phones, test=args.test_set, force=args.force, report=report
    )


def _farsdat_options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    add(how, "--split", choices=farsdat.SPLITS, default=farsdat.DEFAULT_SPLIT)
    add(how, "--speaker-lists", "They take the place of --split", shown="none")
    add(
        parser,
        "--by",
        "The textbook drew utterances",
        choices=("speakers", "utterances"),
        default="speakers",
    )
    add(
        parser,
        "--sentences",
        "published are those of the public recipe",
        choices=("all", "published"),
        default="all",
    )
    add(parser, "--seed", "--split draws from it", default=farsdat.DEFAULT_SEED)


def _prepare_farsdat(args: argparse.Namespace, report: Report) -> Preparation:
    options = FarsdatOptions(
        split=args.split,
        random_split=args.by == "utterances",
        speaker_lists=args.speaker_lists,
        published_sentences=args.sentences == "published",
        seed=args.seed,
    )
    return preparation.prepare_farsdat(args.corpus, args.out, options, force=args.force, report=report)


def _own_options(parser: argparse.ArgumentParser) -> None:
    add(parser, "--table", shown="the one in the corpus")
    add(parser, "--labels", choices=LABEL_READERS, shown="the kind that is there")
    add(parser, "--tier", shown="the only one")
    add(parser, "--silence", shown="none, these intervals are left out")
    add(parser, "--speaker", shown="none")
    for name in ("dev", "test"):
        note = "A column `set` of the table goes before it"
        add(parser, f"--{name}-speakers", note, shown=f"{DEFAULT_SHARE}")
    add(parser, "--partial")


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
    return preparation.prepare_own(args.corpus, args.out, options, force=args.force, report=report)


# name -> one-line help, function for its options, function for its stage, end of an example
_CORPORA = {
    "farsdat": ("FarsDat, read Persian (ELRA-S0112)", _farsdat_options, _prepare_farsdat, "--by utterances"),
    "mini": ("synthetic Persian, which espeak-ng speaks into --corpus", _mini_options, _prepare_mini, "--seed 2"),
    "own": ("a directory of audio with a table of phones or with label files", _own_options, _prepare_own, "--partial"),
    "speechocean762": (
        "English read by Mandarin speakers (OpenSLR 101)",
        _no_options,
        _prepare_speechocean762,
        "--nj 4",
    ),
    "timit": (
        "TIMIT, read American English (LDC93S1), or NLTK's sample of it",
        _timit_options,
        _prepare_timit,
        "--num-phones 39",
    ),
}
DESCRIPTION = "Make the data directories train, dev and test, and the token table beside them, from a corpus."
EXAMPLES = ("asrkit prepare own --corpus speech --out DATA", "asrkit prepare own --help")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    names = parser.add_subparsers(dest="corpus_name", metavar="NAME", required=True)
    for name, (summary, add_options, prepare, end) in _CORPORA.items():
        corpus_parser = names.add_parser(
            name,
            help=summary,
            description=f"Make data directories and the token table from a corpus: {summary}.",
            epilog=examples([f"asrkit prepare {name} --corpus DIR --out DATA {end}"]),
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        corpus_parser.set_defaults(prepare=prepare)
        add(corpus_parser, "--corpus", required=True)
        add(corpus_parser, "--out", "It gets train, dev, test and tokens.txt", required=True)
        add_options(corpus_parser)
        add_nj(corpus_parser)
        add(corpus_parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit prepare` with parsed arguments. Returns the exit status: 0."""
    preparation = args.prepare(args, partial(_report, args))
    if preparation.up_to_date:
        print(f"{args.out}: up to date")
        return 0
    tell(f"{args.out}: written")
    print(f"{'set':8}{'speakers':>10}{'utterances':>12}{'hours':>8}{'phones':>9}")
    for name, counts in preparation.counts.items():
        hours = counts.num_seconds / 3600
        print(f"{name:8}{counts.num_speakers:>10}{counts.num_utterances:>12}{hours:>8.2f}{counts.num_phones:>9}")
    return 0


def _report(args: argparse.Namespace, corpus: Corpus) -> None:
    for note in corpus.notes:
        print(f"{args.corpus}: {note}", file=sys.stderr)
    print_warnings(args, (f"{args.corpus}: {warning}" for warning in corpus.warnings))
