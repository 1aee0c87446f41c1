"""`asrkit lesson`: work through a lesson of the textbook, with its table and pictures."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, experiment_dir
from asrkit.errors import ConfigError
from asrkit.io.tell import tell
from asrkit.lessons import LESSONS, ON_SPEECH

DESCRIPTION = "Work through a lesson of the textbook (docs/textbook/README.md). It leaves a table and pictures."
EXAMPLES = (
    "asrkit lesson reber --out lessons/reber --quick",
    "asrkit lesson phones --data data/test --model exp/blstm_ctc --out lessons/phones",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument("name", choices=list(LESSONS), metavar="NAME", help=f"lesson: {', '.join(LESSONS)}")
    add(parser, "--out", required=True)
    add(parser, "--quick")
    add(parser, "--plain-text", "It is for the lesson characters", shown="one that comes with asrkit")
    names = " and ".join(ON_SPEECH)
    add(parser, "--data", f"It is for {names}, and needs features and times of phones", shown="none")
    note = f"It is for {names}, and must be an experiment directory; memory takes two"
    add(parser, "--model", note, action="append", default=[], shown="none")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit lesson` with parsed arguments. Returns the exit status: 0.

    Raises ConfigError for options that the lesson needs or does not have.
    """
    if args.name in ON_SPEECH and not (args.data and args.model):
        raise ConfigError(
            f"lesson {args.name}: expected --data and --model; give those of a recipe that has been run (recipes/mini)"
        )
    if args.name not in ON_SPEECH and (args.data or args.model):
        raise ConfigError(f"--data and --model have no meaning for the lesson {args.name}; leave them out")

    # matplotlib takes long to load, and these modules need it.
    from asrkit.lessons.lesson import hold_lesson
    from asrkit.lessons.speech import Speech

    files = {}
    if args.plain_text:
        if args.name != "characters":
            raise ConfigError(
                f"--plain-text has no meaning for the lesson {args.name}; leave it out, or take characters"
            )
        files["text"] = args.plain_text
    speech = Speech(args.data, [*map(experiment_dir, args.model)]) if args.data else None
    print(hold_lesson(args.name, args.out, args.quick, files, args.force, speech))
    tell(f"{args.out}: the lesson's table and pictures")
    return 0
