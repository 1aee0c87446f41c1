"""Alignment of many recordings, each with the phones that are known to be in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asrkit.audio import AudioAccess, Channel, read_audio
from asrkit.errors import AsrkitError, ConfigError, DataError, expected, location, printable
from asrkit.formats.data_dir import load_data_dir
from asrkit.formats.results import Result
from asrkit.inference.recognizer import Recognizer
from asrkit.lang.symbols import name_symbols
from asrkit.types import Waveform


@dataclass(frozen=True)
class AlignmentJob:
    """A recording: its `name` as the user knows it, the `key` of its result, its phones, and what reads its audio."""

    name: str
    key: str
    phones: tuple[str, ...]  # empty: there is no transcript
    load: Callable[[], Waveform]


def jobs_of_data_dir(data_dir: str | Path, audio: AudioAccess) -> list[AlignmentJob]:
    """A job for each utterance of a data directory. Raises DataError as load_data_dir."""
    return [
        AlignmentJob(utt.utt_id, utt.utt_id, utt.phones, partial(audio.load, utt.audio, start=utt.start, end=utt.end))
        for utt in load_data_dir(data_dir, audio).utterances()
    ]


def jobs_of_files(
    files: Iterable[str], texts: Mapping[str, tuple[str, ...]], channel: Channel = "error"
) -> list[AlignmentJob]:
    """A job for each audio file; its phones in `texts` are under its name without directory and ending."""
    return [
        AlignmentJob(file, key, texts.get(key, ()), partial(read_audio, file, channel=channel))
        for file in files
        for key in [Path(file).stem]
    ]


def align_all(
    recognizer: Recognizer, jobs: Iterable[AlignmentJob], texts_name: str, optional_silence: str | None = None
) -> Iterator[Result | AsrkitError]:
    """The result of each recording, or what is wrong with it.

    Args:
        texts_name: where the phones come from, for messages.
        optional_silence: a phone that may stand between any others; see Recognizer.align.

    Raises ConfigError when the model does not have that phone.
    """
    known = recognizer.tokens
    if optional_silence is not None and optional_silence not in known:
        raise ConfigError(
            f"--optional-silence {name_symbols([optional_silence], known.phones)}: the model does not have it; it has "
            f"{' '.join(known.phones)}"
        )
    for job in jobs:
        try:
            if not job.phones:
                raise DataError(f"{location(job.name)}no phones for it in {texts_name}")
            waveform = job.load()
            hypothesis = recognizer.align(waveform, job.phones, printable(job.name), optional_silence=optional_silence)
            yield Result(job.name, job.key, hypothesis, waveform.duration, waveform.sample_rate)
        except Exception as error:
            yield expected(error, job.name)
