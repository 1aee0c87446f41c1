"""`asrkit analyze`: errors of the search and of the model, what wider beams find, and how good confidences are."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add_force, add_nj, add_protocol, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.analysis import analyze
from asrkit.stages.inputs import DecodedSet


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("--ref", type=Path, required=True, metavar="DATA", help="data directory that was decoded")
    parser.add_argument(
        "--decode-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="what `asrkit decode` wrote for DATA; analysis.txt, .json and .csv and reliability.png go there",
    )
    parser.add_argument(
        "--log-probs", type=Path, metavar="DIR", help="directory of the log-probabilities (default: --decode-dir)"
    )
    add_protocol(parser)
    add_nj(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    decoded = DecodedSet(args.ref, args.decode_dir, args.log_probs)
    analysis = analyze(args.dir, decoded, protocol=PROTOCOLS[args.protocol], num_jobs=args.nj, force=args.force)
    print_warnings("analyze", analysis.warnings)
    print(analysis.text_file if analysis.is_new else f"{analysis.text_file}: up to date")
    print(analysis.text, end="")
    return 0
