"""`asrkit report`: show the phone error rate of a decoded data directory, and its errors."""

from __future__ import annotations

import argparse

from asrkit.cli.options import (
    add,
    add_audio_access,
    add_executor,
    add_nj,
    add_protocol,
    audio_access,
    experiment_dir,
    print_warnings,
)
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.pages import PageOptions, report_experiment
from asrkit.stages.reporting import report

DESCRIPTION = (
    "Show the phone error rate of a decoded data directory, how sure it is, and the worst phones and confusions. "
    "With --model the report is a page (report.html), text and JSON in MODEL/decode_SET. "
    "With --hyp and --out it is text and JSON."
)
EXAMPLES = (
    "asrkit report --model EXP --data DATA/test",
    "asrkit report --data DATA/test --hyp HYP --out DIR",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--data", "It was decoded. SET is its name", required=True)
    add(
        parser,
        "--model",
        "This verb needs an experiment directory; its decode_SET is reported",
        shown="none",
    )
    add(parser, "--hyp", "It needs --out", shown="none")
    add(parser, "--out", "It gets report.txt and report.json. It needs --hyp", shown="none")
    add(parser, "--audio", default=PageOptions.audio)
    add_audio_access(parser)
    add_protocol(parser)
    add_nj(parser, "They score a large set")
    add_executor(parser)
    add(parser, "--force")
    parser.set_defaults(fail=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit report` with parsed arguments. Returns the exit status: 0."""
    protocol = PROTOCOLS[args.protocol]
    of_files = (args.hyp, args.out)
    if args.model is not None and not any(of_files):
        options = PageOptions(args.audio, audio_access(args))
        experiment = experiment_dir(args.model)
        made = report_experiment(experiment, args.data, options, protocol=protocol, force=args.force, num_jobs=args.nj)
    elif all(of_files) and args.model is None:
        made = report(args.data, *of_files, protocol=protocol, force=args.force, num_jobs=args.nj)
    else:
        args.fail("give --model and --data, or --data, --hyp and --out; see asrkit report --help")
    print_warnings(args, made.warnings)
    files = [made.text_file, made.json_file] + ([made.page] if made.page else [])
    print(f"{', '.join(map(str, files))}{'' if made.is_new else ': up to date'}", *made.lines, sep="\n")
    return 0
