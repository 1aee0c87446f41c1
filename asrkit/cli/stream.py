"""`asrkit stream`: recognise phones while somebody speaks, as JSON lines."""

from __future__ import annotations

import argparse
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from asrkit.audio import open_audio
from asrkit.cli.interrupts import put_off
from asrkit.cli.options import add, add_channel, add_device, add_model, load_chosen_model
from asrkit.errors import ConfigError
from asrkit.inference.find_model import ENGLISH_STREAMING
from asrkit.inference.live_audio import in_chunks, microphone, paced, raw_samples
from asrkit.io.files import open_file

if TYPE_CHECKING:
    from asrkit.inference.stream import StreamingRecognizer, StreamResult


DESCRIPTION = (
    "Recognise speech while it is being spoken, from a file, standard input or the microphone. "
    "Each result is one line of JSON."
)
EXAMPLES = (
    "asrkit stream --microphone",
    "asrkit stream --realtime --endpoint 0.5 speech.wav",
    "asrkit stream --rate 16000 -",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_model(parser, ENGLISH_STREAMING, "It must be able to stream")
    parser.add_argument(
        "input",
        nargs="?",
        metavar="FILE",
        help="recording of any audio format, or - for standard input, which brings 16-bit little-endian samples of one "
        "channel",
    )
    add(parser, "--microphone")
    add(parser, "--rate", shown="the model's")
    add(parser, "--realtime")
    add(parser, "--endpoint", shown="none, the stream is one utterance")
    add_channel(parser)
    add(parser, "--ipa")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit stream` with parsed arguments. Returns the exit status: 0.

    Raises ConfigError for options that contradict each other.
    """
    if args.microphone == (args.input is not None):
        raise ConfigError("expected either an audio file, - for standard input, or --microphone")
    is_file = not args.microphone and args.input != "-"
    if is_file and args.rate is not None:
        raise ConfigError(f"--rate {args.rate}: {args.input} tells its own; it is for standard input and microphones")
    if args.realtime and not is_file:
        raise ConfigError("--realtime: is for files; standard input and microphones have their own pace")

    from asrkit.inference.hypothesis import ipa_symbols
    from asrkit.inference.recognizer import load_model
    from asrkit.inference.stream import StreamingRecognizer

    model = load_chosen_model(args, ENGLISH_STREAMING, load_model)
    symbols = ipa_symbols(model.tokens) if args.ipa else {}
    if is_file:
        with open_audio(args.input, channel=args.channel) as audio:
            stream = StreamingRecognizer(
                model, sample_rate=audio.sample_rate, endpoint=args.endpoint, utt_id=args.input
            )
            chunks = in_chunks(audio, round(stream.step * audio.sample_rate))
            _recognize(stream, paced(chunks, audio.sample_rate) if args.realtime else chunks, symbols)
        return 0
    rate = args.rate or model.features.sample_rate
    name = "microphone" if args.microphone else "standard input"
    stream = StreamingRecognizer(model, sample_rate=rate, endpoint=args.endpoint, utt_id=name)
    size = round(stream.step * rate)
    if args.microphone:
        _recognize(stream, microphone(rate, size), symbols)
        return 0
    with open_file(sys.stdin.fileno(), name) as source:
        _recognize(stream, raw_samples(source, size), symbols)
    return 0


def _recognize(stream: StreamingRecognizer, chunks: Iterator[np.ndarray], symbols: Mapping[str, str]) -> None:
    """Print the results of a stream, with other `symbols` for some phones. At its end, print the computing time."""
    watch = _Watch(stream, symbols)
    try:
        for samples in chunks:
            with put_off():  # an interrupted step would make finishing the stream impossible
                watch.write(partial(stream.accept, samples))
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the terminal shows ^C on this line
    watch.write(stream.finish)
    print(watch.summary(), file=sys.stderr)


class _Watch:
    """Prints results, and measures the computing time of each step and the delay of the first phone."""

    def __init__(self, stream: StreamingRecognizer, symbols: Mapping[str, str]) -> None:
        self._stream, self._symbols = stream, symbols
        self._seconds = array("d")  # computing time of each step
        self._speech: float | None = None  # when the first phone other than silence begins
        self._first: float | None = None  # when that phone was first printed

    def write(self, recognize: Callable[[], Sequence[StreamResult]]) -> None:
        """Call `recognize`, which processes some audio, and print its results."""
        num_steps, began = self._stream.num_steps, time.perf_counter()
        results = recognize()
        took = time.perf_counter() - began
        if done := self._stream.num_steps - num_steps:
            self._seconds.extend([took / done] * done)
        for result in results:
            sounds = [i for i, phone in enumerate(result.phones) if phone not in self._stream.silences]
            if sounds and self._first is None:
                self._first = result.end + took
            if sounds and result.is_final and self._speech is None:
                self._speech = result.times[sounds[0]].start
            print(result.json_line(self._symbols), flush=True)

    def summary(self) -> str:
        parts = {part: seconds for part, seconds in self._stream.look_ahead.items() if seconds > 0.0}
        listed = ", ".join(f"{part} {1e3 * seconds:.1f}" for part, seconds in parts.items())
        step = 1e3 * self._stream.step
        lines = [f"algorithmic latency {1e3 * sum(parts.values()):.1f} ms ({listed}), a step every {step:.0f} ms"]
        if self._seconds:
            median, high = 1e3 * np.percentile(self._seconds, [50, 95])
            lines.append(f"computing time a step: median {median:.2f} ms, 95 % below {high:.2f} ms")
        if self._first is not None and self._speech is not None:
            lines.append(
                f"first phone written {self._first - self._speech:.2f} s after speech began at {self._speech:.2f} s"
            )
        return "\n".join(lines)
