"""`asrkit align`: where known phones are in audio, from an experiment directory alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asrkit.audio import AudioAccess, read_audio
from asrkit.cli.options import add_audio_options, add_channel, add_model
from asrkit.cli.results import ResultWriter, add_results
from asrkit.errors import AsrkitError, ConfigError, DataError
from asrkit.formats.data_dir import load_data_dir
from asrkit.formats.results import Result
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.scp import split_fields
from asrkit.types import Waveform


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
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


@dataclass(frozen=True)
class _Job:
    name: str
    key: str
    phones: tuple[str, ...] | None  # None: there is no transcript
    load: Callable[[], Waveform]


def run(args: argparse.Namespace) -> int:
    jobs = _jobs(args)
    writer = ResultWriter(args.format, args.out, [job.name for job in jobs], [job.key for job in jobs])

    from asrkit.inference.recognizer import load_recognizer  # takes some tenths of a second

    recognizer = load_recognizer(args.model)
    known = recognizer.tokens
    if args.optional_silence is not None and args.optional_silence not in known:
        raise ConfigError(
            f"--optional-silence {args.optional_silence}: the model does not have it; it has {' '.join(known.phones)}"
        )
    num_failed = 0
    for job in jobs:
        try:
            if not job.phones:
                raise DataError(f"{job.name}: no phones for it in {args.text or '--phones'}")
            waveform = job.load()
            hypothesis = recognizer.align(waveform, job.phones, job.name, optional_silence=args.optional_silence)
        except AsrkitError as error:
            num_failed += 1
            print(f"asrkit align: error: {error}", file=sys.stderr, flush=True)
            continue
        writer.write(Result(job.name, job.key, hypothesis, waveform.duration, waveform.sample_rate))
    if num_failed:
        print(f"asrkit align: {num_failed} of {len(jobs)} recordings failed", file=sys.stderr)
    return 1 if num_failed else 0


def _jobs(args: argparse.Namespace) -> list[_Job]:
    if args.data is not None:
        if args.files:
            raise ConfigError(f"{args.files[0]}: with --data the audio is that of the data directory; leave it out")
        audio = AudioAccess(args.audio_root, args.allow_pipes, args.channel)
        data = load_data_dir(args.data, audio)
        jobs = []
        for utt in data.utterances():
            load = partial(audio.load, utt.audio, start=utt.start, end=utt.end)
            jobs.append(_Job(utt.utt_id, utt.utt_id, utt.phones, load))
        return jobs
    if not args.files:
        raise ConfigError("no audio files; give some, or a data directory with --data")
    if args.text is None and len(args.files) > 1:
        raise ConfigError(f"--phones is for one audio file, found {len(args.files)}; give --text with a line for each")
    texts = None if args.text is None else read_transcripts(args.text)
    jobs = []
    for file in args.files:
        key = Path(file).stem
        phones = tuple(split_fields(args.phones)) if texts is None else texts.get(key)
        jobs.append(_Job(file, key, phones, partial(read_audio, file, channel=args.channel)))
    return jobs
