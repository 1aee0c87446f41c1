"""`asrkit align`: find the times of known phones in audio."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from asrkit.audio.inputs import find_inputs
from asrkit.cli.options import (
    add,
    add_audio_access,
    add_device,
    add_executor,
    add_inputs,
    add_model,
    add_nj,
    audio_access,
    load_chosen_model,
)
from asrkit.cli.results import ResultWriter, add_results
from asrkit.errors import ConfigError
from asrkit.formats.results import Result
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.find_model import ENGLISH
from asrkit.io.scp import split_fields

if TYPE_CHECKING:
    from asrkit.inference.alignment import AlignmentJob


DESCRIPTION = "Find the times of known phones in recordings. Give the phones by --phones, --text or --data."
EXAMPLES = (
    "asrkit align --phones 'HH AH L OW' hello.wav",
    "asrkit align --text phones.txt --format textgrid --out grids talks/a.wav talks/b.wav",
    "asrkit align --model mini --data DATA/test --format ctm",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_model(parser, ENGLISH)
    add_inputs(parser)
    phones = parser.add_mutually_exclusive_group(required=True)
    add(phones, "--phones", shown="none")
    add(
        phones,
        "--text",
        "NAME is a file's name without its ending, or its path within a directory that is given",
        shown="none",
    )
    add(phones, "--data", "Its text and its audio are taken", shown="none")
    add(parser, "--optional-silence", shown="none")
    add_audio_access(parser)
    add_results(parser)
    add(parser, "--ipa")
    add_nj(parser)
    add_executor(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit align` with parsed arguments. Returns the exit status: 0, or 1 if a recording failed."""
    from asrkit.inference.alignment import AlignOptions, align_all
    from asrkit.inference.hypothesis import ipa_symbols
    from asrkit.inference.recognizer import Recognizer, open_model  # takes some tenths of a second
    from asrkit.inference.transcription import in_other_symbols

    jobs = _jobs(args)
    named = [job for job in jobs if job.fault is None]
    writer = ResultWriter(args.format, args.out, [job.name for job in named], [job.key for job in named])
    recognizer = Recognizer(load_chosen_model(args, ENGLISH, open_model))
    symbols = ipa_symbols(recognizer.tokens) if args.ipa else {}
    options = AlignOptions(str(args.text or "--phones"), args.optional_silence)
    num_failed = 0
    with writer.locked("align"):
        for result in align_all(recognizer, jobs, options, min(args.nj, len(jobs))):
            if isinstance(result, Result):
                writer.write(replace(result, hypothesis=in_other_symbols(result.hypothesis, symbols)))
            else:
                num_failed += 1
                print(f"asrkit align: error: {result}", file=sys.stderr, flush=True)
    if num_failed:
        print(f"asrkit align: {num_failed} of {len(jobs)} recordings failed", file=sys.stderr)
    return 1 if num_failed else 0


def _jobs(args: argparse.Namespace) -> list[AlignmentJob]:
    from asrkit.inference.alignment import jobs_of_data_dir, jobs_of_inputs

    if args.data is not None:
        if args.inputs or args.list is not None:
            given = args.inputs[0] if args.inputs else f"--list {args.list}"
            raise ConfigError(f"{given}: with --data the audio is that of the data directory; leave it out")
        return jobs_of_data_dir(args.data, audio_access(args))
    if not args.inputs and args.list is None:
        raise ConfigError("no audio files; give some, or a data directory with --data")
    inputs = find_inputs(args.inputs, args.list)
    if args.text is not None:
        return jobs_of_inputs(inputs, read_transcripts(args.text), args.channel)
    if len(inputs) > 1:
        raise ConfigError(f"--phones is for one recording, found {len(inputs)}; give --text with a line for each")
    return jobs_of_inputs(inputs, {inputs[0].key: tuple(split_fields(args.phones))}, args.channel)
