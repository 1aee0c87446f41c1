"""Long recordings and audio formats: `python -m tests.bench.longform --model MODEL`.

The audio is real speech if ASRKIT_SHARED or ../shared holds speechocean762 (else a similar signal), joined to one
recording. The benchmark prints:

- for windows of several lengths and contexts, the share of phones that equal those of the whole recording in one
  window;
- peak memory and CPU time per second of audio of `asrkit transcribe` on files of 1, 10 and 120 minutes, with one
  thread;
- the PER between one recording in many formats and rates and its 16-bit WAV at 16 kHz.

The last line is JSON. The results mean most with a model that was trained for the speech.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asrkit.inference.hypothesis import make_hypothesis
from asrkit.inference.recognizer import Recognizer, load_recognizer
from asrkit.inference.windows import StaticFeatures, WindowedRecognizer, Windows
from asrkit.scoring.per import score
from asrkit.types import Hypothesis
from tests.bench import print_versions
from tests.bench.features import RATE, load_speech

WINDOWS = [(120.0, 10.0), (120.0, 5.0), (60.0, 10.0), (60.0, 5.0), (60.0, 0.1), (20.0, 2.0)]
# Name, sampling rate, libsndfile's format and subtype; stereo has the speech in its second channel.
CODINGS = [
    *((f"wav {rate} Hz", rate, "WAV", "PCM_16") for rate in (8000, 11025, 22050, 44100, 48000)),
    *((f"wav {subtype}", RATE, "WAV", subtype) for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    *((f"wav {subtype}", 8000, "WAV", subtype) for subtype in ("ULAW", "ALAW")),
    ("flac", RATE, "FLAC", "PCM_16"),
    ("sphere", RATE, "NIST", "PCM_16"),
    ("ogg vorbis", RATE, "OGG", "VORBIS"),
    ("opus", RATE, "OGG", "OPUS"),
    ("mp3", RATE, "MP3", "MPEG_LAYER_III"),
    ("wav stereo", RATE, "WAV", "PCM_16"),
]


def run(arguments: list[str]) -> tuple[float, float]:
    """CPU seconds and peak memory (MB) of `asrkit ARGUMENTS`. Its output is thrown away.

    The process reads its peak itself: the value of wait4 would include that of this process, which started it.
    """
    code = (
        "import sys; from asrkit.cli.main import main; status = main(sys.argv[1:])\n"
        "with open('/proc/self/status') as stream: print(stream.read(), file=sys.stderr)\n"
        "sys.exit(status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, int(kilobytes) / 1024


def equal_share(whole: Hypothesis, found: Hypothesis) -> float:
    """Per cent of the phones of `whole` that an alignment pairs with equal phones of `found`."""
    return 100.0 - score({"x": whole.phones}, {"x": found.phones}).per


def compare_windows(recognizer: Recognizer, samples: np.ndarray) -> dict[str, float]:
    """Print and return the share of equal phones, in per cent, for each choice of windows."""
    shares = {}
    with StaticFeatures([samples], recognizer.extractor, "speech") as static:
        duration = len(samples) / RATE
        parts = recognizer.model, recognizer.search, recognizer.timer
        whole = WindowedRecognizer(*parts, Windows(duration + 1, 0)).recognize(static, "speech", duration)
        results = recognizer.search.decode(recognizer.model.log_probs(static.read(0, static.num_frames)))
        plain = make_hypothesis("speech", recognizer.tokens, results)
        print(f"{duration:.0f} s, {len(whole.phones)} phones; equal to a search that never settles: ", end="")
        shares["unsettled"] = equal_share(plain, whole)
        print(f"{shares['unsettled']:.3f} %")
        for length, context in WINDOWS:
            windowed = WindowedRecognizer(*parts, Windows(length, context))
            found = windowed.recognize(static, "speech", duration)
            shares[f"{length:g}/{context:g}"] = share = equal_share(whole, found)
            line = f"windows of {length:g} s with {context:g} s of context: {share:.3f} % of phones equal"
            if found.phones == whole.phones:
                moved = max(abs(a.start - b.start) for a, b in zip(whole.times, found.times, strict=True))
                line += f", all times within {1000 * moved:.3g} ms"
            print(line, flush=True)
    return shares


def measure_memory(model: str, samples: np.ndarray, directory: Path, minutes: list[int]) -> dict[int, list[float]]:
    """Print and return peak memory in MB and the real-time factor, by minutes of audio."""
    figures = {}
    path = directory / "long.wav"
    for length in minutes:
        wanted = length * 60 * RATE
        with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="WAV") as file:
            while wanted > 0:
                file.write(samples[:wanted].astype(np.int16))
                wanted -= len(samples)
        seconds, megabytes = run(["transcribe", "--model", model, "--json", "--nj", "1", str(path)])
        figures[length] = [megabytes, seconds / (60 * length)]
        print(
            f"{length} min: peak memory {megabytes:.0f} MB, CPU time {seconds:.1f} s, "
            f"{seconds / (60 * length):.5f} of the audio's",
            flush=True,
        )
    return figures


def compare_codings(recognizer: Recognizer, utterances: list[np.ndarray], directory: Path) -> dict[str, float]:
    """Print and return the PER against 16-bit WAV, in per cent, for each coding."""
    refs = {}
    for number, samples in enumerate(utterances):
        soundfile.write(directory / "x.wav", samples.astype(np.int16), RATE)
        refs[str(number)] = recognizer.transcribe(directory / "x.wav", with_times=False).phones
    rates = {}
    for name, rate, container, subtype in CODINGS:
        hyps = {}
        for number, samples in enumerate(utterances):
            signal = samples / 32768 if rate == RATE else soxr.resample(samples / 32768, RATE, rate)
            if name.endswith("stereo"):
                signal = np.stack([np.zeros_like(signal), signal], axis=1)
            soundfile.write(directory / "x", signal, rate, format=container, subtype=subtype)
            channel = 1 if name.endswith("stereo") else "error"
            found = recognizer.transcribe(directory / "x", channel=channel, with_times=False)
            hyps[str(number)] = found.phones
        rates[name] = score(refs, hyps).per
        print(f"{name}: PER {rates[name]:.2f} % against 16-bit WAV at {RATE} Hz", flush=True)
    return rates


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="as for asrkit transcribe")
    parser.add_argument("--wavs", nargs="*", type=Path, help="16 kHz WAV files to take as speech")
    parser.add_argument("--utts", type=int, default=150, help="utterances of speech to take")
    parser.add_argument("--minutes", type=int, nargs="*", default=[1, 10, 120])
    args = parser.parse_args()
    print_versions("onnxruntime", "numpy", "soundfile", "soxr")
    if args.wavs:
        name, speech = "files", [soundfile.read(path, dtype="int16")[0].astype(np.float32) for path in args.wavs]
    else:
        name, speech = load_speech(args.utts)
    print(f"speech: {name}, {len(speech)} utterances")
    recognizer = load_recognizer(args.model)
    samples = np.concatenate(speech)
    with tempfile.TemporaryDirectory() as directory:
        results = {
            "equal_percent": compare_windows(recognizer, samples),
            "memory_mb_and_rtf": measure_memory(args.model, samples, Path(directory), args.minutes),
            "per_between_codings": compare_codings(recognizer, speech[:40], Path(directory)),
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
