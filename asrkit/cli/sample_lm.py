"""`asrkit sample-lm`: draw random sentences from a language model."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add
from asrkit.stages.lm_use import sample_lm

DESCRIPTION = "Print sentences that a language model makes up, one a line, drawn token by token."
EXAMPLES = ("asrkit sample-lm --lm EXP/lstm_lm/lm.npz --number 5 --temperature 0.7",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--lm", required=True)
    add(parser, "--number", default=10)
    add(parser, "--temperature", default=1.0)
    add(parser, "--seed", default=1)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit sample-lm` with parsed arguments. Returns the exit status: 0."""
    print(*sample_lm(args.lm, args.number, args.temperature, args.seed), sep="\n")
    return 0
