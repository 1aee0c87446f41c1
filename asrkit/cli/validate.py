"""`asrkit validate DIR`: list all faults of a data directory, and count its content."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add, add_audio_access, audio_access, print_warnings
from asrkit.lang.tokens import TokenTable
from asrkit.stages.validation import validate

DESCRIPTION = "Check a data directory and list every fault, with file and line."
EXAMPLES = (
    "asrkit validate DATA/train",
    "asrkit validate DATA/test --tokens DATA/tokens.txt",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument("data_dir", type=Path, metavar="DATA", help="data directory (wav.scp, text, utt2spk ...)")
    add(parser, "--tokens", "Each phone must be in it", shown="tokens.txt beside DATA, where there is one")
    add_audio_access(parser)


def run(args: argparse.Namespace) -> int:
    """Print each fault on a line, then a summary. Returns 1 if there is a fault, otherwise 0."""
    path = args.tokens
    if path is None and (args.data_dir.absolute().parent / "tokens.txt").exists():
        path = args.data_dir.absolute().parent / "tokens.txt"
    tokens = None if path is None else TokenTable.read(path)
    audio = audio_access(args)
    inspection = validate(args.data_dir, tokens=tokens, audio=audio)
    data, errors = inspection.data, inspection.findings.errors
    print_warnings(args, inspection.findings.warnings)
    for error in errors:
        print(error)
    num_phones = sum(len(phones) for phones in data.text.values())
    num_speakers = len(set(data.utt2spk.values()))
    print(
        f"{args.data_dir}: {len(data.utt2spk)} utterances, {num_speakers} speakers, "
        f"{inspection.num_seconds / 3600:.2f} h, {num_phones} phones, "
        f"{'tokens not checked' if tokens is None else f'tokens from {path}'}; {len(errors)} faults"
    )
    return 1 if errors else 0
