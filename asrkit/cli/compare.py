"""`asrkit compare`: test whether one system is better than another, by the paired bootstrap."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add, add_audio_access, add_protocol, audio_access, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.pages import PageOptions, compare_experiments
from asrkit.stages.scoring import compare

DESCRIPTION = (
    "Compare the phone error rates of two systems, A and B. "
    "The paired bootstrap says how sure the difference is. "
    "Give three files of transcripts, or two experiments and the data directory that both decoded."
)
EXAMPLES = (
    "asrkit compare REF HYP_A HYP_B",
    "asrkit compare --data DATA/test --html differences.html EXP_A EXP_B",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.usage = "%(prog)s [options] REF HYP_A HYP_B\n       %(prog)s [options] --data DATA [--html FILE] EXP_A EXP_B"
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="REF, HYP_A and HYP_B, files of `utt_id phone phone ...`; with --data two experiment directories",
    )
    add(parser, "--data", "Each experiment has decoded it to EXP/decode_SET; SET is the name of DATA", shown="none")
    add(parser, "--html", "It needs --data", shown="none")
    add(parser, "--audio", default=PageOptions.audio)
    add_audio_access(parser)
    add_protocol(parser)
    add(parser, "--utt2spk", shown="none")
    parser.set_defaults(fail=parser.error)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit compare` with parsed arguments. Returns the exit status: 0."""
    protocol, files = PROTOCOLS[args.protocol], args.files
    if args.data is None and len(files) == 3 and args.html is None:
        names = files[1:]
        systems = compare(*files, protocol=protocol, utt2spk=args.utt2spk)
    elif args.data is not None and len(files) == 2 and args.utt2spk is None:
        names = files
        options = PageOptions(args.audio, audio_access(args))
        systems = compare_experiments(tuple(files), args.data, args.html, options, protocol=protocol)
    else:
        args.fail("give REF, HYP_A and HYP_B, or --data and two experiments, with which --html goes")
    print_warnings(args, systems.warnings)
    if args.html is not None:
        print(args.html)
    described, a, b, *others = systems.lines()
    print(described, f"{a} {names[0]}", f"{b} {names[1]}", *others, sep="\n")
    return 0
