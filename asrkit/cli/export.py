"""`asrkit export`: a trained experiment as one ONNX file, compared with PyTorch; on request with 8-bit weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.cli.options import add_audio_options, add_channel
from asrkit.stages.exporting import export, megabytes


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="EXP", help="experiment directory, or the name of a recipe that has one")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: EXP/final.onnx, or EXP/final.int8.onnx)"
    )
    parser.add_argument(
        "--ref",
        type=Path,
        metavar="DATA",
        help="data directory with features: the export is compared with PyTorch on all of it, and 8-bit weights are "
        "judged by their phone error rate there",
    )
    parser.add_argument("--int8", action="store_true", help="8-bit weights: a smaller file; needs --ref")
    parser.add_argument(
        "--test",
        type=Path,
        metavar="DATA",
        help="data directory whose audio the exported model recognises, each utterance by itself; the phone error rate "
        "goes into the file",
    )
    add_channel(parser)
    add_audio_options(parser)


def run(args: argparse.Namespace) -> int:
    audio = AudioAccess(args.audio_root, args.allow_pipes, args.channel)
    exported = export(args.dir, out=args.out, ref=args.ref, int8=args.int8, test=args.test, audio=audio)
    print(*exported.lines(), sep="\n")
    print(f"{exported.path}: {megabytes(exported.size)}", file=sys.stderr)
    return 0
