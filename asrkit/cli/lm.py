"""`asrkit train-lm`: train a phone n-gram language model on the transcripts of a data directory, in ARPA format."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, print_warnings
from asrkit.lm.smoothing import EPSILONS, SMOOTHINGS
from asrkit.stages.lm_training import LmConfig, train_lm

DESCRIPTION = "Train a phone language model, an n-gram model in ARPA format, on the transcripts of a data directory."
EXAMPLES = (
    "asrkit train-lm --train DATA/train --dev DATA/dev --tokens DATA/tokens.txt --order 5 --out-file DATA/lm.arpa",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--train", "Its transcripts are used", required=True)
    add(parser, "--dev", "The perplexity of its transcripts is printed, too", shown="none")
    add(parser, "--tokens", "It is the vocabulary", required=True)
    add(parser, "--order", default=3)
    add(parser, "--smoothing", choices=SMOOTHINGS, default="kneser_ney")
    epsilons = ",".join(map(str, EPSILONS))
    add(parser, "--epsilon", "The last one holds for all higher orders. It needs --smoothing laplace", shown=epsilons)
    add(parser, "--out-file", "It gets the model", required=True)
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit train-lm` with parsed arguments. Returns the exit status: 0."""
    config = LmConfig(args.order, args.smoothing, args.epsilon)
    result = train_lm(args.train, args.tokens, args.out_file, config, dev=args.dev, force=args.force)
    print_warnings(args, result.warnings)
    print(*result.lines(), sep="\n")
    return 0
