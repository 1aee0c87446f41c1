"""`asrkit table`: several experiments side by side, those that differ in the seed alone as one row."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = (
    "Show several experiments side by side: networks, costs and phone error rates. "
    "Experiments that differ in the seed only are one row."
)
EXAMPLES = ("asrkit table EXP_A EXP_B",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dirs",
        type=Path,
        nargs="+",
        metavar="EXP",
        help="experiment directory with reports in decode_dev and decode_test",
    )


def run(args: argparse.Namespace) -> int:
    # PyTorch takes seconds to load, and this module needs it.
    from asrkit.stages.tables import tabulate

    print(tabulate(args.dirs).text())
    return 0
