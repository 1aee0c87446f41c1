"""`asrkit rescore`: the best labellings of a search, ranked again with other language models."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add, add_protocol
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.rescoring import RescoreOptions, rescore

DESCRIPTION = (
    "Rank the labellings that asrkit decode --nbest found again, with other language models in place of the search's. "
    "The first of each utterance is written."
)
EXAMPLES = (
    "asrkit decode --model EXP --data DATA/dev --nbest 50 --beam 64 --out NBEST_DEV",
    "asrkit rescore --decode-dir NBEST_DEV --lm EXP/lstm_lm/lm.npz --data DATA/dev --out EXP/rescored_dev",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--decode-dir", "It needs nbest.jsonl", required=True)
    add(parser, "--lm", "Repeat the option to mix several in equal shares", required=True, action="append")
    add(parser, "--lm-weight", shown="the search's, or chosen on --data")
    add(parser, "--insertion-bonus", shown="the search's, or chosen on --data")
    add(parser, "--data", "Weight and bonus are those with the fewest errors on its transcripts", shown="none")
    add_protocol(parser)
    add(parser, "--out", required=True)
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit rescore` with parsed arguments. Returns the exit status: 0."""
    lms: list[Path] = args.lm
    options = RescoreOptions(args.lm_weight, args.insertion_bonus, args.data, PROTOCOLS[args.protocol])
    result = rescore(args.decode_dir, lms, args.out, options, force=args.force)
    print(*result.lines(), sep="\n")
    return 0
