"""`asrkit report`: the phone error rate of a decoded data directory, and where its errors are."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.cli.options import add_audio_options, add_channel, add_force, add_protocol, add_shown_audio, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.pages import PageOptions, report_experiment
from asrkit.stages.reporting import report


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, nargs="?", metavar="EXP", help="experiment directory")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA",
        help="data directory that was decoded to EXP/decode_SET, SET being its name",
    )
    add_shown_audio(parser, PageOptions.audio)
    add_audio_options(parser)
    add_channel(parser)
    others = parser.add_argument_group("without EXP and --data, text and JSON alone")
    others.add_argument("--ref", type=Path, metavar="DATA", help="data directory that was decoded")
    others.add_argument("--hyp", type=Path, metavar="FILE", help="hypotheses: `utt_id phone phone ...`")
    others.add_argument("--out", type=Path, metavar="DIR", help="where report.txt and report.json go")
    add_protocol(parser)
    add_force(parser)
    parser.set_defaults(fail=parser.error)


def run(args: argparse.Namespace) -> int:
    protocol = PROTOCOLS[args.protocol]
    of_experiment, of_files = (args.experiment, args.data), (args.ref, args.hyp, args.out)
    if all(of_experiment) and not any(of_files):
        access = AudioAccess(args.audio_root, args.allow_pipes, args.channel)
        options = PageOptions(args.audio, access)
        made = report_experiment(*of_experiment, options, protocol=protocol, force=args.force)
    elif all(of_files) and not any(of_experiment):
        made = report(*of_files, protocol=protocol, force=args.force)
    else:
        args.fail("give EXP and --data, or --ref, --hyp and --out; see asrkit report --help")
    print_warnings("report", made.warnings)
    files = [made.text_file, made.json_file] + ([made.page] if made.page else [])
    print(f"{', '.join(map(str, files))}{'' if made.is_new else ': up to date'}", *made.lines, sep="\n")
    return 0
