"""`asrkit export`: write a trained experiment to one ONNX file, optionally with 8-bit weights."""

from __future__ import annotations

import argparse
import sys

from asrkit.cli.options import add, add_audio_access, audio_access
from asrkit.stages.exporting import export, megabytes

DESCRIPTION = "Write a trained model to one ONNX file, which runs without PyTorch. The file is compared with PyTorch."
EXAMPLES = (
    "asrkit export --model EXP --dev DATA/dev",
    "asrkit export --model EXP --int8 --dev DATA/dev --out-file small.onnx",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--model", "This verb needs an experiment directory", required=True)
    add(parser, "--out-file", shown="final.onnx in MODEL, or final.int8.onnx")
    add(
        parser,
        "--dev",
        "It needs features. The file is compared with PyTorch on all of it, and 8-bit weights are scored on it",
        shown="none, features are made up",
    )
    add(parser, "--int8", "It needs --dev")
    add(parser, "--test", "The file recognises its audio, and holds the phone error rate", shown="none")
    add_audio_access(parser)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit export` with parsed arguments. Returns the exit status: 0."""
    audio = audio_access(args)
    exported = export(args.model, out=args.out_file, ref=args.dev, int8=args.int8, test=args.test, audio=audio)
    print(*exported.lines(), sep="\n")
    print(f"{exported.path}: {megabytes(exported.size)}", file=sys.stderr)
    return 0
