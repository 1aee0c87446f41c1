"""`asrkit lesson`: one of the textbook's lessons, with its table and its pictures."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add
from asrkit.errors import ConfigError
from asrkit.lessons import LESSONS

DESCRIPTION = "Work through a lesson of the textbook (docs/textbook/README.md). It leaves a table and pictures."
EXAMPLES = ("asrkit lesson reber --out lessons/reber --quick",)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=LESSONS, metavar="NAME", help=f"lesson: {', '.join(LESSONS)}")
    add(parser, "--out", required=True)
    add(parser, "--quick")
    add(parser, "--plain-text", "It is for the lesson characters", shown="one that comes with asrkit")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    # matplotlib takes long to load, and this module needs it.
    from asrkit.lessons.lesson import hold_lesson

    files = {}
    if args.plain_text:
        if args.name != "characters":
            raise ConfigError(
                f"--plain-text has no meaning for the lesson {args.name}; leave it out, or take characters"
            )
        files["text"] = args.plain_text
    print(hold_lesson(args.name, args.out, args.quick, files, args.force))
    return 0
