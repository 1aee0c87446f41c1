"""`asrkit table`: several experiments side by side, those that differ in the seed alone as one row."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dirs",
        type=Path,
        nargs="+",
        metavar="EXP",
        help="experiment directories with reports in decode_dev and decode_test",
    )


def run(args: argparse.Namespace) -> int:
    # PyTorch takes seconds to load, and this module needs it.
    from asrkit.stages.tables import tabulate

    print(tabulate(args.dirs).text())
    return 0
