"""Alignment of many recordings with their known phones."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asrkit.audio import AudioAccess, Channel, read_audio
from asrkit.audio.inputs import STANDARD_INPUT, Input
from asrkit.audio.read import decode
from asrkit.errors import AsrkitError, ConfigError, DataError, expected, location, printable
from asrkit.formats.data_dir import load_data_dir
from asrkit.formats.results import Result
from asrkit.inference.recognizer import Recognizer
from asrkit.lang.symbols import name_symbols
from asrkit.parallel import map_in_threads
from asrkit.scoring.protocols import silences
from asrkit.types import Waveform


@dataclass(frozen=True)
class AlignmentJob:
    """One recording to align.

    Attributes:
        name: its name for the user.
        key: the key of its result.
        phones: the spoken phones; empty if there is no transcript.
        load: reads its audio.
        fault: why it cannot be aligned, or None.
    """

    name: str
    key: str
    phones: tuple[str, ...]
    load: Callable[[], Waveform]
    fault: str | None = None


def jobs_of_data_dir(data_dir: str | Path, audio: AudioAccess) -> list[AlignmentJob]:
    """One job for each utterance of a data directory. Raises DataError as load_data_dir."""
    return [
        AlignmentJob(utt.utt_id, utt.utt_id, utt.phones, partial(audio.load, utt.audio, start=utt.start, end=utt.end))
        for utt in load_data_dir(data_dir, audio).utterances()
    ]


def jobs_of_inputs(
    inputs: Iterable[Input], texts: Mapping[str, tuple[str, ...]], channel: Channel = "error"
) -> list[AlignmentJob]:
    """One job for each recording. `texts`: key of the recording -> its phones."""
    return [
        AlignmentJob(each.name, each.key, texts.get(each.key, ()), partial(_read, each.name, channel), each.fault)
        for each in inputs
    ]


def _read(name: str, channel: Channel) -> Waveform:
    if name == STANDARD_INPUT:
        return decode(io.BytesIO(sys.stdin.buffer.read()), "standard input", channel=channel)
    return read_audio(name, channel=channel)


@dataclass(frozen=True)
class AlignOptions:
    """How recordings are aligned.

    Attributes:
        texts_name: the source of the phones, for messages.
        optional_silence: a phone that can occur between any two others; see Recognizer.align.
    """

    texts_name: str
    optional_silence: str | None = None


def align_all(
    recognizer: Recognizer, jobs: Sequence[AlignmentJob], options: AlignOptions, num_threads: int = 1
) -> Iterator[Result | AsrkitError]:
    """Align all recordings; yield the result of each, or its error, in their order.

    Raises:
        ConfigError: the model does not have the optional silence, or cannot take one.
        ModelError: the model cannot align phones.
    """
    recognizer.expect_alignment(options.optional_silence)
    known, silence = recognizer.tokens, options.optional_silence
    if silence is not None and silence not in known:
        raise ConfigError(
            f"--optional-silence {name_symbols([silence], known.phones)}: the model does not have it; it has "
            f"{' '.join(known.phones)}"
        )
    return map_in_threads(partial(_align, recognizer, options), jobs, num_threads, chunk_size=1)


def _align(recognizer: Recognizer, options: AlignOptions, job: AlignmentJob) -> Result | AsrkitError:
    try:
        if job.fault is not None:
            raise DataError(job.fault)
        if not job.phones:
            raise DataError(f"{location(job.name)}no phones for it in {options.texts_name}")
        waveform, silence = job.load(), options.optional_silence
        hypothesis = recognizer.align(waveform, job.phones, printable(job.name), optional_silence=silence)
        silent = frozenset(silences(recognizer.tokens.phones))
        return Result(job.name, job.key, hypothesis, waveform.duration, waveform.sample_rate, silent)
    except Exception as error:
        return expected(error, job.name)
