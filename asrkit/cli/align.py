"""`asrkit align`: where known phones are in audio, from a model alone."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from asrkit.audio import AudioAccess
from asrkit.cli.options import add_audio_options, add_channel, add_ipa, add_model, load_chosen_model
from asrkit.cli.results import ResultWriter, add_results
from asrkit.errors import ConfigError
from asrkit.formats.results import Result
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.find_model import ENGLISH
from asrkit.io.scp import split_fields

if TYPE_CHECKING:
    from asrkit.inference.alignment import AlignmentJob


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser, ENGLISH)
    parser.add_argument("files", nargs="*", metavar="FILE", help="audio files of any format and sampling rate")
    phones = parser.add_mutually_exclusive_group(required=True)
    phones.add_argument("--phones", metavar="'PHONE PHONE ...'", help="what is said in the one audio file")
    phones.add_argument(
        "--text", type=Path, metavar="TEXT", help="what is said in each: `NAME phone phone ...`, NAME.wav being a file"
    )
    phones.add_argument("--data", type=Path, metavar="DATA", help="data directory: its text, and its audio for FILEs")
    parser.add_argument(
        "--optional-silence",
        metavar="PHONE",
        help="a phone of the model that may stand between any others; it is reported where it is heard",
    )
    add_channel(parser)
    add_audio_options(parser)
    add_results(parser)
    add_ipa(parser)


def run(args: argparse.Namespace) -> int:
    from asrkit.inference.alignment import align_all
    from asrkit.inference.hypothesis import ipa_symbols
    from asrkit.inference.recognizer import Recognizer  # takes some tenths of a second
    from asrkit.inference.transcription import in_other_symbols

    jobs = _jobs(args)
    writer = ResultWriter(args.format, args.out, [job.name for job in jobs], [job.key for job in jobs])
    recognizer = Recognizer(load_chosen_model("align", args.model, ENGLISH))
    symbols = ipa_symbols(recognizer.tokens) if args.ipa else {}
    num_failed = 0
    with writer.locked("align"):
        for result in align_all(recognizer, jobs, str(args.text or "--phones"), args.optional_silence):
            if isinstance(result, Result):
                writer.write(replace(result, hypothesis=in_other_symbols(result.hypothesis, symbols)))
            else:
                num_failed += 1
                print(f"asrkit align: error: {result}", file=sys.stderr, flush=True)
    if num_failed:
        print(f"asrkit align: {num_failed} of {len(jobs)} recordings failed", file=sys.stderr)
    return 1 if num_failed else 0


def _jobs(args: argparse.Namespace) -> list[AlignmentJob]:
    from asrkit.inference.alignment import jobs_of_data_dir, jobs_of_files

    if args.data is not None:
        if args.files:
            raise ConfigError(f"{args.files[0]}: with --data the audio is that of the data directory; leave it out")
        return jobs_of_data_dir(args.data, AudioAccess(args.audio_root, args.allow_pipes, args.channel))
    if not args.files:
        raise ConfigError("no audio files; give some, or a data directory with --data")
    if args.text is not None:
        return jobs_of_files(args.files, read_transcripts(args.text), args.channel)
    if len(args.files) > 1:
        raise ConfigError(f"--phones is for one audio file, found {len(args.files)}; give --text with a line for each")
    (file,) = args.files
    return jobs_of_files([file], {Path(file).stem: tuple(split_fields(args.phones))}, args.channel)
