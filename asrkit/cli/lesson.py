"""`asrkit lesson`: one of the textbook's lessons, with its table and its pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.io.lock import lock_dir
from asrkit.lessons import LESSONS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=LESSONS, help="the lesson (docs/textbook/README.md)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where its table and pictures go")
    parser.add_argument("--quick", action="store_true", help="at a size of seconds to a minute")


def run(args: argparse.Namespace) -> int:
    # PyTorch takes seconds to load, and this module needs it.
    from asrkit.lessons.lesson import hold_lesson

    with lock_dir(args.out, "lesson"):
        print(hold_lesson(args.name, args.out, args.quick))
    return 0
