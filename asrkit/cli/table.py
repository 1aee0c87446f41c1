"""`asrkit table`: compare several experiments in a table. Experiments that differ only in the seed share a row."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = (
    "Show several experiments side by side: networks, costs and phone error rates. "
    "Experiments that differ in the seed only are one row."
)
EXAMPLES = ("asrkit table EXP_A EXP_B",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument(
        "dirs",
        type=Path,
        nargs="+",
        metavar="EXP",
        help="experiment directory with reports in decode_dev and decode_test",
    )


def run(args: argparse.Namespace) -> int:
    """Run `asrkit table` with parsed arguments. Returns the exit status: 0."""
    # PyTorch takes seconds to load, and this module needs it.
    from asrkit.stages.tables import tabulate

    print(tabulate(args.dirs).text())
    return 0
