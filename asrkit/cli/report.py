"""`asrkit report`: the phone error rate of a decoded data directory, and where its errors are."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add_force, add_protocol, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.reporting import report


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ref", type=Path, required=True, metavar="DATA_DIR", help="data directory that was decoded")
    parser.add_argument("--hyp", type=Path, required=True, metavar="FILE", help="hypotheses: `utt_id phone phone ...`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where report.txt and report.json go")
    add_protocol(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    made = report(args.ref, args.hyp, args.out, protocol=PROTOCOLS[args.protocol], force=args.force)
    print_warnings("report", made.warnings)
    print(f"{made.text_file}, {made.json_file}{'' if made.is_new else ': up to date'}", *made.lines, sep="\n")
    return 0
