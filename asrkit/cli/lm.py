"""`asrkit train-lm DATA_DIR`: a phone n-gram language model from a data directory's transcripts, in ARPA format."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add_force, positive_int, print_warnings
from asrkit.io.numbers import parse_number
from asrkit.lm.smoothing import EPSILONS, SMOOTHINGS
from asrkit.stages.lm_training import LmConfig, train_lm


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="data directory whose `text` is learnt from")
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE", help="token table: the vocabulary")
    parser.add_argument("--order", type=positive_int, default=3, metavar="N", help="n-gram order (default: 3)")
    parser.add_argument(
        "--smoothing", choices=SMOOTHINGS, default="kneser_ney", help="how seen n-grams share with unseen ones"
    )
    parser.add_argument(
        "--epsilon",
        type=_epsilons,
        metavar="E1,E2,...",
        help="epsilons of --smoothing laplace, from unigrams on; the last one also holds for higher orders "
        f"(default: {','.join(map(str, EPSILONS))})",
    )
    parser.add_argument("--dev", type=Path, metavar="DATA_DIR", help="print the perplexity of this one's `text`, too")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the ARPA file to write")
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    config = LmConfig(args.order, args.smoothing, args.epsilon)
    result = train_lm(args.data_dir, args.tokens, args.out, config, dev=args.dev, force=args.force)
    print_warnings("train-lm", result.warnings)
    print(*result.lines(), sep="\n")
    return 0


def _epsilons(text: str) -> tuple[float, ...]:
    values = tuple(value for field in text.split(",") if (value := parse_number(field.strip())))
    if len(values) <= text.count(",") or min(values) < 0:
        raise argparse.ArgumentTypeError(f"expected positive numbers with commas between, found {text!r}")
    return values
