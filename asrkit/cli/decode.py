"""`asrkit decode`: a data directory's features through a trained experiment to hypotheses and log-probabilities."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrkit.cli.options import add_force, add_nj, finite_float, positive_int
from asrkit.decoding.methods import SEARCHES
from asrkit.features.cmvn import NORMALIZATIONS
from asrkit.stages.decoding import DecodeOptions, decode


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="data directory with features")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write: hyp, decoding.yaml")
    parser.add_argument(
        "--log-probs",
        type=Path,
        metavar="DIR",
        help="directory of log_probs.ark and .scp, which are written unless they are up to date (default: --out)",
    )
    parser.add_argument("--method", choices=list(SEARCHES), help="search (default: the experiment's)")
    parser.add_argument("--beam", type=positive_int, metavar="N", help="beam in place of the experiment's")
    parser.add_argument("--lm-weight", type=finite_float, metavar="X", help="weight of the language model, likewise")
    parser.add_argument("--insertion-bonus", type=finite_float, metavar="X", help="nats for every phone, likewise")
    parser.add_argument(
        "--blank-penalty", type=finite_float, metavar="X", help="nats taken off the blank in greedy search, likewise"
    )
    parser.add_argument(
        "--ctc-weight", type=finite_float, metavar="X", help="CTC's share beside an attention decoder's, likewise"
    )
    parser.add_argument(
        "--coverage-weight", type=finite_float, metavar="X", help="nats for steps that a decoder looked at, likewise"
    )
    parser.add_argument(
        "--nbest", type=positive_int, metavar="N", help="also write the N best with their scores to DIR/nbest.jsonl"
    )
    parser.add_argument("--ctm", action="store_true", help="also write times and confidences to DIR/phones.ctm")
    parser.add_argument(
        "--cmvn",
        choices=tuple(NORMALIZATIONS),
        help="normalisation in place of the experiment's; `speech_utterance` is what transcribe does where the model "
        "has `speech_speaker`, `utterance` where it has `speaker`",
    )
    parser.add_argument("--batch-size", type=positive_int, default=32, metavar="N", help="changes speed alone")
    add_nj(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    options = DecodeOptions(
        method=args.method,
        beam=args.beam,
        lm_weight=args.lm_weight,
        insertion_bonus=args.insertion_bonus,
        blank_penalty=args.blank_penalty,
        ctc_weight=args.ctc_weight,
        coverage_weight=args.coverage_weight,
        cmvn=args.cmvn,
        nbest=args.nbest,
        ctm=args.ctm,
        log_probs=args.log_probs,
        batch_size=args.batch_size,
    )
    decoding = decode(args.dir, args.data, args.out, options, num_jobs=args.nj, force=args.force)
    if not decoding.is_new:
        print(f"{decoding.out}: decoding is up to date", file=sys.stderr)
    return 0
