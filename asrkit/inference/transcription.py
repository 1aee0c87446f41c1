"""Recognition of many recordings, several of them at the same time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from asrkit.audio import AudioStream, Channel, open_audio
from asrkit.audio.inputs import STANDARD_INPUT, Input
from asrkit.errors import AsrkitError, DataError, expected
from asrkit.formats.results import Result
from asrkit.inference.recognizer import Recognizer
from asrkit.parallel import map_in_threads
from asrkit.types import Hypothesis


@dataclass(frozen=True)
class TranscribeOptions:
    """Options of transcription.

    Attributes:
        channel: for audio with several channels: the one to use; see read_audio.
        with_times: find times and confidences of phones.
        num_best: the largest number of alternatives per hypothesis.
        symbols: phone -> symbol that replaces it.
    """

    channel: Channel = "error"
    with_times: bool = True
    num_best: int = 0
    symbols: Mapping[str, str] = field(default_factory=dict)


def transcribe_all(
    recognizer: Recognizer, inputs: Sequence[Input], options: TranscribeOptions, num_threads: int = 1
) -> Iterator[Result | AsrkitError]:
    """Recognise all recordings; yield the result of each, or its error, in their order."""
    return map_in_threads(partial(_transcribe, recognizer, options), inputs, num_threads, chunk_size=1)


def _transcribe(recognizer: Recognizer, options: TranscribeOptions, each: Input) -> Result | AsrkitError:
    if each.fault is not None:
        return DataError(each.fault)
    source = sys.stdin.buffer if each.name == STANDARD_INPUT else each.name
    try:
        with open_audio(source, channel=options.channel) as audio:
            return transcribe_one(recognizer, audio, each, options)
    except Exception as error:
        return expected(error, each.name)


def transcribe_one(recognizer: Recognizer, audio: AudioStream, each: Input, options: TranscribeOptions) -> Result:
    """Recognise the recording `each`, whose `audio` is open. Raises AudioError as Recognizer.transcribe."""
    hypothesis = recognizer.transcribe(audio, with_times=options.with_times, num_best=options.num_best)
    hypothesis = in_other_symbols(hypothesis, options.symbols)
    silent = recognizer.timer.silent_phones
    return Result(each.name, each.key, hypothesis, audio.duration, audio.sample_rate, silent)


def in_other_symbols(hypothesis: Hypothesis, table: Mapping[str, str]) -> Hypothesis:
    """The hypothesis with its phones replaced by the symbols of `table`. Other phones stay."""

    def written(phones: Iterable[str]) -> tuple[str, ...]:
        return tuple(table.get(phone, phone) for phone in phones)

    return replace(
        hypothesis,
        phones=written(hypothesis.phones),
        times=tuple(replace(time, phone=table.get(time.phone, time.phone)) for time in hypothesis.times),
        alternatives=tuple(replace(other, phones=written(other.phones)) for other in hypothesis.alternatives),
    )
