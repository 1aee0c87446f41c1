"""`asrkit perplexity`: measure how well language models predict a text, separately and mixed."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add
from asrkit.errors import ConfigError
from asrkit.stages.lm_use import perplexities

DESCRIPTION = (
    "Print the perplexity of language models on a text: of each, and of their best mixture. Each end of a sentence "
    "counts as a token."
)
EXAMPLES = ("asrkit perplexity --lm DATA/lm.arpa --lm EXP/lstm_lm/lm.npz --data DATA/dev",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--lm", "Repeat the option to mix several", required=True, action="append")
    add(parser, "--data", "Its transcripts are the text", shown="none")
    add(parser, "--plain-text", "It is the text: a line is a sentence, a character a token", shown="none")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit perplexity` with parsed arguments. Returns the exit status: 0.

    Raises ConfigError unless either --data or --plain-text is given.
    """
    if bool(args.data) == bool(args.plain_text):
        raise ConfigError("give either --data or --plain-text")
    lms: list[Path] = args.lm
    print(*perplexities(lms, data=args.data, plain_text=args.plain_text).lines(), sep="\n")
    return 0
