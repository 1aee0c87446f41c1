"""`asrkit transcribe`: audio files to phones, from an experiment directory alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrkit.audio import read_audio
from asrkit.cli.options import add_channel
from asrkit.cli.results import ResultWriter, add_results
from asrkit.errors import AsrkitError
from asrkit.outputs import Result


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("files", nargs="+", metavar="FILE", help="audio files of any format and sampling rate")
    add_channel(parser)
    add_results(parser)
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")


def run(args: argparse.Namespace) -> int:
    keys = [Path(file).stem for file in args.files]
    writer = ResultWriter(args.format, args.out, args.files, keys)

    from asrkit.recognizer import Recognizer  # loads PyTorch

    recognizer = Recognizer.load(args.dir)
    num_failed = 0
    for file, key in zip(args.files, keys, strict=True):
        try:
            waveform = read_audio(file, channel=args.channel)
            hypothesis = recognizer.transcribe(waveform, file, with_times=writer.format.has_times)
        except AsrkitError as error:
            num_failed += 1
            print(f"asrkit transcribe: error: {error}", file=sys.stderr, flush=True)
            continue
        writer.write(Result(file, key, hypothesis, waveform.duration, waveform.sample_rate))
    if num_failed:
        print(f"asrkit transcribe: {num_failed} of {len(args.files)} files failed", file=sys.stderr)
    return 1 if num_failed else 0
