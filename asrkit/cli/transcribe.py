"""`asrkit transcribe`: audio files of any number and length to phones."""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from asrkit.audio import open_audio
from asrkit.audio.inputs import STANDARD_INPUT, Input, find_inputs
from asrkit.cli.options import add_channel, add_model, add_nj, positive_int
from asrkit.cli.results import ResultWriter, add_results
from asrkit.errors import AsrkitError, ConfigError, raise_if_any
from asrkit.formats.results import FORMATS, Result
from asrkit.lang.ipa import ipa_table
from asrkit.parallel import make_thread_executor, track
from asrkit.types import Hypothesis


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="audio files of any format and sampling rate, directories with such files in and below them, quoted "
        "patterns ('*.wav', 'speech/**/*.flac'), or - for audio from standard input",
    )
    parser.add_argument("--list", type=Path, metavar="FILE", help="a file that names more inputs, one a line")
    add_channel(parser)
    add_results(parser)
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.add_argument("--ipa", action="store_true", help="write phones in the alphabet of the IPA")
    parser.add_argument(
        "--nbest", type=positive_int, default=0, metavar="N", help="write the N best results (formats text and json)"
    )
    parser.add_argument("--no-lm", action="store_true", help="search without the language model")
    parser.add_argument(
        "--beam", type=positive_int, metavar="N", help="width of the beam search (default: the model's settings)"
    )
    add_nj(parser)


def run(args: argparse.Namespace) -> int:
    if args.nbest and not FORMATS[args.format].has_alternatives:
        raise ConfigError(f"--nbest: {args.format} has no place for several results; choose --format text or json")
    inputs = find_inputs(args.inputs, args.list)
    named = [(each.name, each.key) for each in inputs if each.fault is None]
    writer = ResultWriter(args.format, args.out, [name for name, _ in named], [key for _, key in named])

    from asrkit.inference.recognizer import Recognizer, load_recognizer  # takes some tenths of a second
    from asrkit.scoring.protocols import silences

    recognizer = load_recognizer(args.model)
    decoding = recognizer.model.decoding
    if args.no_lm or args.beam:
        decoding = replace(decoding, lm_weight=0.0) if args.no_lm else decoding
        decoding = replace(decoding, method="beam", beam=args.beam) if args.beam else decoding
        recognizer = Recognizer(recognizer.model, decoding)
    if args.nbest > recognizer.search.max_results:
        raise ConfigError(f"--nbest {args.nbest}: the {decoding.method} search keeps fewer; give --beam {args.nbest}")
    phones = recognizer.tokens.phones
    quiet = frozenset(silences(phones))
    ipa = ipa_table(set(phones) - quiet) if args.ipa else {}

    def transcribe(each: Input) -> Result | AsrkitError:
        source = sys.stdin.buffer if each.name == STANDARD_INPUT else each.name
        try:
            raise_if_any([] if each.fault is None else [each.fault])
            with open_audio(source, channel=args.channel) as audio:
                found = recognizer.transcribe(audio, with_times=writer.format.has_times, num_best=args.nbest)
                found = _in_other_symbols(found, ipa)
                return Result(each.name, each.key, found, audio.duration, audio.sample_rate, quiet)
        except AsrkitError as error:
            return error

    results: Iterable[Result | AsrkitError] = _in_order(transcribe, inputs, min(args.nj, len(inputs)))
    if len(inputs) > 1 and sys.stderr.isatty() and (args.out is not None or not sys.stdout.isatty()):
        results = track(results, "transcribing", len(inputs))
    num_failed = 0
    try:
        for result in results:
            if isinstance(result, Result):
                writer.write(result)
            else:
                num_failed += 1
                print(f"asrkit transcribe: error: {result}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        # Not by the usual way out, which waits for threads: they may have hours to do.
        print("asrkit transcribe: interrupted", file=sys.stderr, flush=True)
        os._exit(130)
    if num_failed:
        print(f"asrkit transcribe: {num_failed} of {len(inputs)} files failed", file=sys.stderr)
    return 1 if num_failed else 0


def _in_order(
    function: Callable[[Input], Result | AsrkitError], inputs: list[Input], num_threads: int
) -> Iterator[Result | AsrkitError]:
    """`function` of each, as soon as it and those before it are ready."""
    executor = make_thread_executor(num_threads)
    rest = iter(inputs)
    num_ahead = 1 if num_threads == 1 else 4 * num_threads  # so that threads need not wait for one that has a long file
    try:
        pending = deque(executor.submit(function, each) for each in islice(rest, num_ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(executor.submit(function, each) for each in islice(rest, 1))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _in_other_symbols(found: Hypothesis, table: Mapping[str, str]) -> Hypothesis:
    """With those of its phones that the `table` has written as it says."""
    if not table:
        return found

    def written(phones: Iterable[str]) -> tuple[str, ...]:
        return tuple(table.get(phone, phone) for phone in phones)

    return replace(
        found,
        phones=written(found.phones),
        times=tuple(replace(time, phone=table.get(time.phone, time.phone)) for time in found.times),
        alternatives=tuple(replace(other, phones=written(other.phones)) for other in found.alternatives),
    )
