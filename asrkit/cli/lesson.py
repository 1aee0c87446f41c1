"""`asrkit lesson`: one of the textbook's lessons, with its table and its pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add_force
from asrkit.errors import ConfigError
from asrkit.lessons import LESSONS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=LESSONS, help="the lesson (docs/textbook/README.md)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where its table and pictures go")
    parser.add_argument("--quick", action="store_true", help="at a size of seconds to a minute")
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="characters: a text of your own to learn from, in UTF-8"
    )
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    # matplotlib takes long to load, and this module needs it.
    from asrkit.lessons.lesson import hold_lesson

    files = {}
    if args.text:
        if args.name != "characters":
            raise ConfigError(f"--text has no meaning for the lesson {args.name}; leave it out, or take characters")
        files["text"] = args.text
    print(hold_lesson(args.name, args.out, args.quick, files, args.force))
    return 0
