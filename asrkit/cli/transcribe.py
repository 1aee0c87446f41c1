"""`asrkit transcribe`: recognise the phones of any number of recordings of any length."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from asrkit.audio.inputs import find_inputs
from asrkit.cli.options import (
    add,
    add_channel,
    add_device,
    add_executor,
    add_inputs,
    add_model,
    add_nj,
    load_chosen_model,
)
from asrkit.cli.results import ResultWriter, add_results
from asrkit.errors import AsrkitError, ConfigError
from asrkit.formats.results import FORMATS, Result
from asrkit.inference.find_model import ENGLISH
from asrkit.parallel import track

if TYPE_CHECKING:
    from asrkit.inference.recognizer import Recognizer


DESCRIPTION = "Recognise recordings, and write their phones."
EXAMPLES = (
    "asrkit transcribe speech.wav",
    "asrkit transcribe --ipa --format textgrid --out grids interviews 'talks/*.mp3'",
    "ffmpeg -i film.mkv -f wav - | asrkit transcribe --format srt -",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_model(parser, ENGLISH)
    add_inputs(parser)
    add_channel(parser)
    add_results(parser)
    add(parser, "--json", "It means --format json", action="store_const", const="json", dest="format")
    add(parser, "--ipa")
    add(parser, "--nbest", "It needs --format text or json", default=0, shown="none, the best one only")
    add(parser, "--no-lm")
    add(parser, "--beam", shown="the model's")
    add_nj(parser)
    add_executor(parser)
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit transcribe` with parsed arguments. Returns the exit status: 0, or 1 if a recording failed.

    Raises ConfigError if --nbest is given with a format for one result.
    """
    if args.nbest and not FORMATS[args.format].has_alternatives:
        raise ConfigError(f"--nbest: {args.format} has no place for several results; choose --format text or json")

    inputs = find_inputs(args.inputs, args.list)
    named = [(each.name, each.key) for each in inputs if each.fault is None]
    writer = ResultWriter(args.format, args.out, [name for name, _ in named], [key for _, key in named])

    from asrkit.inference.hypothesis import ipa_symbols
    from asrkit.inference.transcription import TranscribeOptions, transcribe_all  # takes some tenths of a second

    recognizer = _load(args)
    symbols = ipa_symbols(recognizer.tokens) if args.ipa else {}
    options = TranscribeOptions(args.channel, writer.format.has_times, args.nbest, symbols)
    results: Iterable[Result | AsrkitError]
    results = transcribe_all(recognizer, inputs, options, min(args.nj, len(inputs)))
    if len(inputs) > 1 and sys.stderr.isatty() and (args.out is not None or not sys.stdout.isatty()):
        results = track(results, "transcribing", len(inputs))
    with writer.locked("transcribe"):
        num_failed = _write(results, writer)
    if num_failed:
        print(f"asrkit transcribe: {num_failed} of {len(inputs)} files failed", file=sys.stderr)
    return 1 if num_failed else 0


def _load(args: argparse.Namespace) -> Recognizer:
    """Load the recogniser with the requested search."""
    from asrkit.inference.recognizer import Recognizer, open_model

    model = load_chosen_model(args, ENGLISH, open_model)
    decoding = model.decoding
    if args.no_lm:
        decoding = replace(decoding, lm_weight=0.0)
    if args.beam:
        decoding = replace(decoding, method="beam", beam=args.beam)
    recognizer = Recognizer(model, decoding)
    if args.nbest > recognizer.search.max_results:
        raise ConfigError(f"--nbest {args.nbest}: the {decoding.method} search keeps fewer; give --beam {args.nbest}")
    return recognizer


def _write(results: Iterable[Result | AsrkitError], writer: ResultWriter) -> int:
    """Write results and print errors as they arrive. Returns the number of errors."""
    num_failed = 0
    for result in results:
        if isinstance(result, Result):
            writer.write(result)
        else:
            num_failed += 1
            print(f"asrkit transcribe: error: {result}", file=sys.stderr, flush=True)
    return num_failed
