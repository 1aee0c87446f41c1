"""`asrkit tune`: decoding settings and calibrated confidences from a dev set's stored log-probabilities."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add_force, add_nj, add_protocol, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.inputs import DecodedSet
from asrkit.stages.tuning import tune


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("--ref", type=Path, required=True, metavar="DATA", help="data directory to tune on (dev)")
    parser.add_argument(
        "--decode-dir", type=Path, required=True, metavar="DIR", help="what `asrkit decode` wrote for DATA"
    )
    add_protocol(parser)
    add_nj(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    dev = DecodedSet(args.ref, args.decode_dir)
    tuning = tune(args.dir, dev, protocol=PROTOCOLS[args.protocol], num_jobs=args.nj, force=args.force)
    print_warnings("tune", tuning.warnings)
    print(tuning.out if tuning.is_new else f"{tuning.out}: tuning is up to date", *tuning.lines, sep="\n")
    return 0
