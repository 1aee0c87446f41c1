"""Streaming recognition: `python -m tests.bench.streaming` in an environment with asrkit alone.

Audio comes in chunks of one step, on one thread. Printed are:

- the elapsed time of computing a step;
- the CPU time of a stream divided by that of transcribe on the same audio;
- the number of utterances in which a stream, in chunks of random sizes, finds the same phones as transcribe.

The model is conf/lstm_ctc_streaming.yaml with a 5-gram of phones. It is not trained, but scaled so that it finds a
number of phones as in speech. --model takes a trained one. The audio is real speech if ASRKIT_SHARED or ../shared holds
speechocean762, else a similar signal.

With --model and --data, the audio is that of a data directory with the true times of phones (phones.ctm). Then another
figure is the delay from the beginning of the first sound to the output of the first phone that is not silence: waiting
for audio, and computing time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from asrkit.audio import AudioAccess
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.errors import DataError
from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm
from asrkit.inference.recognizer import Recognizer, load_recognizer
from asrkit.inference.stream import StreamingRecognizer
from asrkit.io.scp import read_table
from asrkit.types import Waveform
from tests.bench import print_versions
from tests.bench.features import RATE, load_speech
from tests.bench.runtime import make_model

CONFIG = Path(__file__).parents[2] / "conf" / "lstm_ctc_streaming.yaml"


def random_chunks(samples: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Cut samples (n,) into chunks of 1 sample to 1 s."""
    ends = np.cumsum(np.exp(rng.uniform(0, np.log(RATE), len(samples) // 100 + 10)).astype(int))
    return np.split(samples, ends[ends < len(samples)])


def phones_of(stream: StreamingRecognizer, chunks: list[np.ndarray]) -> tuple[str, ...]:
    """The phones of a stream that takes these chunks."""
    results = [result for chunk in chunks for result in stream.accept(chunk)] + stream.finish()
    return sum((result.phones for result in results if result.is_final), ())


def count_equal(recognizer: Recognizer, speech: list[np.ndarray]) -> tuple[int, int]:
    """The number of utterances with the same phones in chunks of random sizes, and the number of all phones."""
    rng, num_equal, num_phones = np.random.default_rng(0), 0, 0
    for samples in speech:
        expected = recognizer.transcribe(Waveform(samples, RATE)).phones
        found = phones_of(StreamingRecognizer(recognizer.model), random_chunks(samples, rng))
        num_equal += found == expected
        num_phones += len(expected)
    return num_equal, num_phones


def step_seconds(recognizer: Recognizer, samples: np.ndarray) -> list[float]:
    """Elapsed seconds of each step, for chunks of one step."""
    stream, seconds = StreamingRecognizer(recognizer.model), []
    size = round(stream.step * RATE)
    for begin in range(0, len(samples), size):
        num_steps, start = stream.num_steps, time.perf_counter()
        stream.accept(samples[begin : begin + size])
        if stream.num_steps > num_steps:
            seconds.append((time.perf_counter() - start) / (stream.num_steps - num_steps))
    return seconds


def cpu_ratio(recognizer: Recognizer, samples: np.ndarray, rounds: int) -> float:
    """Median over rounds of the CPU time of a stream divided by that of transcribe."""
    ratios = []
    for _ in range(rounds + 1):
        start = time.process_time()
        stream = StreamingRecognizer(recognizer.model)
        phones_of(stream, np.array_split(samples, round(len(samples) / RATE / stream.step)))
        between = time.process_time()
        recognizer.transcribe(Waveform(samples, RATE))
        ratios.append((between - start) / (time.process_time() - between))
    return statistics.median(ratios[1:])


def first_phone_seconds(recognizer: Recognizer, samples: np.ndarray, onset: float) -> float | None:
    """Seconds from `onset` to the output of the first phone that is not silence; None if there is none."""
    stream = StreamingRecognizer(recognizer.model)
    size = round(stream.step * RATE)
    for begin in range(0, len(samples), size):
        start = time.perf_counter()
        for result in stream.accept(samples[begin : begin + size]):
            if set(result.phones) - stream.silences:
                return result.end + time.perf_counter() - start - onset
    return None


def load_data(directory: Path, num_utts: int, silences: frozenset[str]) -> tuple[list[np.ndarray], list[float]]:
    """Utterances of a data directory, and the start in seconds of the first phone of each that is not silence."""
    entries = read_table(directory / "wav.scp")
    findings = Findings()
    labels = read_ctm(directory / "phones.ctm", findings)
    findings.raise_errors(DataError)
    chosen = sorted(entries)[:: max(len(entries) // num_utts, 1)][:num_utts]
    onsets = [next(label.start for label in labels[utt] if label.phone not in silences) for utt in chosen]
    return [AudioAccess().load(entries[utt], sample_rate=RATE).samples for utt in chosen], onsets


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a trained model in place of the made-up one")
    parser.add_argument("--data", type=Path, help="a data directory with phones.ctm")
    parser.add_argument("--utts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print_versions("numpy", "onnxruntime")
    name, speech = load_speech(args.utts)
    onsets: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        model = args.model
        if model is None:
            config = load_config(CONFIG, ExperimentConfig)
            model = make_model(Path(temporary), np.concatenate(speech)[: 60 * RATE], config)
        recognizer = load_recognizer(model)
    if args.data is not None:
        silences = StreamingRecognizer(recognizer.model).silences
        name, (speech, onsets) = str(args.data), load_data(args.data, args.utts, silences)
    samples = np.concatenate(speech)
    print(f"audio: {name}, {len(speech)} utterances, {len(samples) / RATE:.0f} s")

    seconds = np.concatenate([step_seconds(recognizer, samples[: 60 * RATE]) for _ in range(args.rounds)])
    median, high = 1e3 * np.percentile(seconds, [50, 95])
    step = 1e3 * StreamingRecognizer(recognizer.model).step
    print(f"a step of {step:.0f} ms: median {median:.2f} ms, 95 % below {high:.2f} ms ({len(seconds)} steps)")
    ratio = cpu_ratio(recognizer, samples[: 60 * RATE], args.rounds)
    print(f"CPU time of a stream in chunks of one step over that of transcribe: {ratio:.1f}")
    num_equal, num_phones = count_equal(recognizer, speech)
    print(
        f"chunks of random sizes: {num_equal} of {len(speech)} utterances as transcribe has them ({num_phones} phones)"
    )
    found = {"step_ms": median, "step_ms_95": high, "ratio": ratio, "equal": num_equal / len(speech)}
    if onsets:
        delays = [first_phone_seconds(recognizer, *pair) for pair in zip(speech, onsets, strict=True)]
        heard = [delay for delay in delays if delay is not None]
        median, high = np.percentile(heard, [50, 95])
        within = sum(0 <= delay <= 0.2 for delay in heard) / len(delays)
        print(
            f"first phone after speech begins: median {median:.3f} s, 95 % below {high:.3f} s, {100 * within:.0f} % "
            f"within 0.2 s"
        )
        found |= {"first_phone": median, "first_phone_95": high}
    print(json.dumps({key: round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
