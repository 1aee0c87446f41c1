"""`asrkit compare`: whether one system is better than another, by the paired bootstrap."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.cli.options import (
    add_audio_options,
    add_channel,
    add_protocol,
    add_shown_audio,
    add_utt2spk,
    print_warnings,
)
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.pages import PageOptions, compare_experiments
from asrkit.stages.scoring import compare


def configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] REF HYP_A HYP_B\n       %(prog)s [options] --data DATA [--html FILE] EXP_A EXP_B"
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="REF, HYP_A and HYP_B, lines of `utt_id phone phone ...`; with --data two experiment directories",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA",
        help="data directory that both decoded to EXP/decode_SET, SET being its name",
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="with --data: write a page on which both are seen and heard"
    )
    add_shown_audio(parser, PageOptions.audio)
    add_audio_options(parser)
    add_channel(parser)
    add_protocol(parser)
    add_utt2spk(parser)
    parser.set_defaults(fail=parser.error)


def run(args: argparse.Namespace) -> int:
    protocol, files = PROTOCOLS[args.protocol], args.files
    if args.data is None and len(files) == 3 and args.html is None:
        names = files[1:]
        systems = compare(*files, protocol=protocol, utt2spk=args.utt2spk)
    elif args.data is not None and len(files) == 2 and args.utt2spk is None:
        names = files
        options = PageOptions(args.audio, AudioAccess(args.audio_root, args.allow_pipes, args.channel))
        systems = compare_experiments(tuple(files), args.data, args.html, options, protocol=protocol)
    else:
        args.fail("give REF, HYP_A and HYP_B, or --data and two experiments, with which --html goes")
    print_warnings("compare", systems.warnings)
    if args.html is not None:
        print(args.html)
    described, a, b, *others = systems.lines()
    print(described, f"{a} {names[0]}", f"{b} {names[1]}", *others, sep="\n")
    return 0
