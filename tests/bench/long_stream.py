"""Streams of minutes: `python -m tests.bench.long_stream --model MODEL --data DIR`, of a model for streams.

The utterances of a data directory are recognised one by one, and joined to one stream in the order of their ids. What
is printed:

- the number of utterances in which a stream in chunks of 1 sample to 1 s finds the phones, times and confidences of
  transcribe, and whether the joined stream finds the phones of transcribe;
- the phone error rate of the utterances, of the joined stream, and of the joined stream with each --endpoint. Where one
  utterance ends in silence and the next one begins in it, the silence counts once;
- the peak of the process's memory after a third of the joined stream, and at its end.

--method greedy or beam replaces the search of the model. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from asrkit.audio import AudioAccess
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.recognizer import Recognizer, load_recognizer
from asrkit.inference.stream import StreamingRecognizer, StreamResult
from asrkit.io.scp import read_table
from asrkit.scoring.per import score
from asrkit.types import Hypothesis, Waveform
from tests.bench import print_versions
from tests.bench.features import RATE
from tests.bench.streaming import random_chunks

_CLOSE = 1e-3  # confidences are those of sums over other numbers of steps at a time


def finals(stream: StreamingRecognizer, chunks: Sequence[np.ndarray]) -> list[StreamResult]:
    """The final results of a stream that takes these chunks."""
    results = [result for chunk in chunks for result in stream.accept(chunk)] + stream.finish()
    return [result for result in results if result.is_final]


def phones_of(results: Sequence[StreamResult]) -> tuple[str, ...]:
    """All phones of these results."""
    return sum((result.phones for result in results), ())


def are_those_of(expected: Hypothesis, results: Sequence[StreamResult]) -> bool:
    """Whether the results have the phones of `expected`, their times to a microsecond, and their confidences."""
    ends = [(time.start, time.end) for result in results for time in result.times]
    confidences = [confidence for result in results for confidence in result.confidences]
    return (
        phones_of(results) == expected.phones
        and np.allclose(ends, [(time.start, time.end) for time in expected.times], rtol=0, atol=1e-6)
        and np.allclose(confidences, expected.confidences, rtol=0, atol=_CLOSE)
    )


def joined(phones: Sequence[str], silences: frozenset[str]) -> list[str]:
    """The phones without a silence that follows the same silence."""
    pairs = zip(phones, ["", *phones], strict=False)
    return [phone for phone, before in pairs if not (phone == before and phone in silences)]


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(
    recognizer: Recognizer, speech: Mapping[str, np.ndarray], refs: Mapping[str, Sequence[str]], endpoints: list[float]
) -> dict[str, float]:
    """Print and return all figures, by name. `speech` has the samples (n,) of each utterance."""
    model, decoding = recognizer.model, recognizer.decoding
    rng, alone, num_equal = np.random.default_rng(0), {}, 0
    for utt_id, samples in speech.items():
        expected = recognizer.transcribe(Waveform(samples, RATE), utt_id)
        num_equal += are_those_of(expected, finals(StreamingRecognizer(model, decoding), random_chunks(samples, rng)))
        alone[utt_id] = expected.phones
    found = {"equal": num_equal / len(speech), "alone": score(refs, alone).per}
    print(f"in chunks of any size as transcribe has them: {num_equal} of {len(speech)} utterances")
    print(f"PER of the utterances: {found['alone']:.2f} %")

    samples = np.concatenate([*speech.values()])
    chunks, stream = random_chunks(samples, rng), StreamingRecognizer(model, decoding)
    silences = stream.silences
    ref = joined([phone for utt_id in speech for phone in refs[utt_id]], silences)
    third = len(chunks) // 3
    first = [result for chunk in chunks[:third] for result in stream.accept(chunk)]
    peak = peak_mb()
    phones = phones_of([result for result in first if result.is_final] + finals(stream, chunks[third:]))
    found["growth_mb"] = peak_mb() - peak
    print(f"peak memory: {peak:.0f} MB after a third of {len(samples) / RATE:.0f} s, {peak_mb():.0f} MB at the end")
    is_equal = phones == recognizer.transcribe(Waveform(samples, RATE), "joined").phones
    print(f"the joined stream has the phones of transcribe: {'yes' if is_equal else 'no'}")
    found["stream"] = score({"x": ref}, {"x": joined(phones, silences)}).per
    print(f"PER of the joined stream: {found['stream']:.2f} %")
    for endpoint in endpoints:
        phones = phones_of(finals(StreamingRecognizer(model, decoding, endpoint=endpoint), chunks))
        found[f"stream_{endpoint:g}"] = per = score({"x": ref}, {"x": joined(phones, silences)}).per
        print(f"PER of the joined stream with --endpoint {endpoint:g}: {per:.2f} %")
    return found


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model for streams")
    parser.add_argument("--data", type=Path, required=True, help="a data directory")
    parser.add_argument("--utts", type=int, default=100, help="utterances, spread over the directory")
    parser.add_argument("--method", choices=["greedy", "beam"], help="the search in place of the model's")
    parser.add_argument("--endpoint", type=float, action="append", default=[], help="seconds; may be repeated")
    args = parser.parse_args()
    print_versions("numpy", "onnxruntime")
    entries, refs = read_table(args.data / "wav.scp"), read_transcripts(args.data / "text")
    places = np.linspace(0, len(entries), min(args.utts, len(entries)), endpoint=False).astype(int)
    chosen = [sorted(entries)[place] for place in places]
    speech = {utt_id: AudioAccess().load(entries[utt_id], sample_rate=RATE).samples for utt_id in chosen}
    recognizer = load_recognizer(args.model)
    if args.method is not None:
        recognizer = Recognizer(recognizer.model, replace(recognizer.decoding, method=args.method))
    figures = measure(recognizer, speech, {utt_id: refs[utt_id] for utt_id in chosen}, args.endpoint)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
