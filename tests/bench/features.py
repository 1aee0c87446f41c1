"""Features against other toolkits: `python -m tests.bench.features` in an environment that has them.

The task is to compute a model's 39-dimensional features: 13 MFCCs (16 kHz, 25 and 10 ms, 23 filters, no dither), with
means and variances normalised over the utterance, deltas and delta-deltas. They are computed from samples in memory,
and from 16-bit WAV files. torchaudio and librosa have their own functions for deltas. kaldi-native-fbank has neither
CMVN nor deltas, and uses ours. The audio is real speech if ASRKIT_SHARED or ../shared holds speechocean762, else a
similar signal. The NumPy fallback runs in a separate process, again beside torchaudio.

The last line is JSON: {"ratios": {peer: its time / ours}}. `numpy_fallback_torchaudio` is torchaudio's time divided by
the fallback's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from asrkit._native import kernel
from asrkit.audio import AudioAccess, read_audio
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.io.scp import read_table, write_table
from asrkit.types import Waveform
from tests.bench import interleave, print_versions
from tests.shared import SHARED

CONFIG = FeatureConfig(cmvn="utterance")
RATE = CONFIG.sample_rate
Run = Callable[[], list[np.ndarray]]


def make_speech(seconds: float, seed: int) -> np.ndarray:
    """A signal similar to speech, whole numbers on the int16 scale: gliding harmonics and noise in syllables."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 220) * (1 + 0.2 * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * times))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voiced = sum(np.sin(k * phase) / k for k in range(1, 16))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(1.5, 3) * times), 0, None)
    noise = rng.standard_normal(len(times))
    return np.round(3000 * syllables * voiced + (20 + 600 * syllables**4) * noise).astype(np.float32)


def load_speech(num_utts: int) -> tuple[str, list[np.ndarray]]:
    """A description, and utterances (num_samples,) float32 on the int16 scale."""
    corpus = SHARED / "data" / "speechocean762"
    if not (corpus / "train" / "wav.scp").is_file():
        rng = np.random.default_rng(0)
        return "generated", [make_speech(rng.uniform(1.5, 7), seed) for seed in range(num_utts)]
    entries = sorted(read_table(corpus / "train" / "wav.scp").items())
    chosen = [entries[i * len(entries) // num_utts][1] for i in range(min(num_utts, len(entries)))]
    samples = [AudioAccess(corpus).load(entry, sample_rate=RATE).samples for entry in chosen]
    return "speechocean762", [np.round(utt).astype(np.float32) for utt in samples]


def our_run(speech: list[np.ndarray]) -> Run:
    """Our features of utterances (num_samples,)."""
    extractor = FeatureExtractor(CONFIG)
    waveforms = [Waveform(samples, RATE) for samples in speech]
    return lambda: [extractor.full(waveform) for waveform in waveforms]


def torchaudio_features() -> Callable[[object], object]:
    """A function from a tensor of samples (1, n), int16 scale, to features (T, 39)."""
    import torch
    import torchaudio
    from torchaudio.compliance import kaldi

    torch.set_num_threads(1)

    def compute(signal: torch.Tensor) -> torch.Tensor:
        feats = kaldi.mfcc(signal, dither=0.0, use_energy=False)
        feats = (feats - feats.mean(dim=0)) / feats.std(dim=0, correction=0)
        first = torchaudio.functional.compute_deltas(feats.T)
        second = torchaudio.functional.compute_deltas(first)
        return torch.cat([feats, first.T, second.T], dim=1)

    return torch.inference_mode()(compute)


def torchaudio_run(speech: list[np.ndarray]) -> Run:
    """torchaudio's features of utterances (num_samples,)."""
    import torch

    compute = torchaudio_features()
    signals = [torch.from_numpy(samples)[None] for samples in speech]
    return lambda: [compute(signal).numpy() for signal in signals]


def torchaudio_files_run(paths: list[Path]) -> Run:
    """torchaudio's features of WAV files."""
    import torch

    compute = torchaudio_features()

    def one(path: Path) -> np.ndarray:
        samples, _ = soundfile.read(path, dtype="float32")
        return compute(torch.from_numpy(samples)[None] * 32768).numpy()

    return lambda: [one(path) for path in paths]


def kaldi_native_fbank_run(speech: list[np.ndarray]) -> Run:
    """kaldi-native-fbank's MFCCs of utterances (num_samples,), with our CMVN and deltas."""
    import kaldi_native_fbank as knf

    options = knf.MfccOptions()
    options.frame_opts.dither = 0.0
    options.use_energy = False

    def one(samples: np.ndarray) -> np.ndarray:
        computer = knf.OnlineMfcc(options)
        computer.accept_waveform(RATE, samples)
        computer.input_finished()
        static = np.stack([computer.get_frame(t) for t in range(computer.num_frames_ready)])
        return full_features(static, None, CONFIG)

    return lambda: [one(samples) for samples in speech]


def librosa_run(speech: list[np.ndarray]) -> Run:
    """librosa's features of utterances (num_samples,)."""
    import librosa

    sizes = {"n_mfcc": 13, "n_mels": 23, "n_fft": 512, "win_length": 400, "hop_length": 160, "center": False}

    def one(samples: np.ndarray) -> np.ndarray:
        feats = librosa.feature.mfcc(y=samples, sr=RATE, fmin=20.0, **sizes)
        feats = (feats - feats.mean(axis=1, keepdims=True)) / feats.std(axis=1, keepdims=True)
        deltas = [librosa.feature.delta(feats, width=5, order=order) for order in (1, 2)]
        return np.concatenate([feats, *deltas]).T

    scaled = [samples / np.float32(32768) for samples in speech]
    return lambda: [one(samples) for samples in scaled]


def available(makers: dict[str, Callable[[], Run]]) -> dict[str, Run]:
    """The runs whose packages can be imported. Prints a line for each of the others."""
    runs = {}
    for name, make in makers.items():
        try:
            runs[name] = make()
        except (ImportError, OSError) as error:
            print(f"{name}: left out, it cannot be imported: {error}")
    return runs


def compare(title: str, ours: Run, peers: dict[str, Callable[[], Run]], seconds: float, num_rounds: int) -> dict:
    """Print the speed of each run. Returns the ratios of the peers."""
    runs = {"asrkit": ours, **available(peers)}
    times, ratios = interleave(runs, num_rounds)
    for name, spent in times.items():
        note = f", {ratios[name]:.1f} times ours" if name in ratios else ""
        print(f"{title}: {name} {seconds / spent:.0f} times real time{note}", flush=True)
    return ratios


def print_agreement(speech: list[np.ndarray]) -> None:
    """Print the largest differences from peers with the same definitions, in units of the standard deviation."""
    ours = our_run(speech)()
    peers = available(
        {
            "torchaudio": lambda: torchaudio_run(speech),
            "kaldi-native-fbank": lambda: kaldi_native_fbank_run(speech),
        }
    )
    for name, run in peers.items():
        differences = [np.abs(a - b)[4:-4].max() for a, b in zip(ours, run(), strict=True)]
        print(f"largest difference from {name}, without the edges of deltas: {max(differences):.1e}")


def print_growth(num_rounds: int) -> None:
    """Print the cost by the length of one signal, and by the number of utterances."""
    minute = make_speech(60, 0)
    extractor = FeatureExtractor(CONFIG)

    def cost(run: Callable[[], object]) -> float:
        times = []
        for _ in range(num_rounds):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        return float(np.median(times))

    for minutes in (1, 10, 100):
        whole = Waveform(np.tile(minute, minutes), RATE)
        parts = [Waveform(part, RATE) for part in np.split(whole.samples, minutes * 10)]
        alone = cost(lambda whole=whole: extractor.full(whole))
        apart = cost(lambda parts=parts: [extractor.full(part) for part in parts])
        for title, seconds in (("one signal", alone), (f"{len(parts)} utterances", apart)):
            print(f"{minutes} minutes as {title}: {1000 * seconds:.2f} ms, {1000 * seconds / minutes:.3f} a minute")


def print_extraction() -> None:
    """Print the time and peak memory (on Linux) of `asrkit extract --nj 1` for up to 100 minutes of WAV files."""
    if not Path("/proc/self/status").is_file():
        return
    script = (
        "import sys, time; from asrkit.cli.main import main; status = main(sys.argv[1:]);"
        "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM:')];"
        "print(time.process_time(), int(peak[0]) / 1024); sys.exit(status)"
    )
    with tempfile.TemporaryDirectory() as directory:
        utterances = [make_speech(6, seed).astype(np.int16) for seed in range(10)]
        for minutes in (0.1, 1, 10, 100):
            data_dir = Path(directory) / f"{minutes}"
            wavs = {f"u{number:05d}": str(data_dir / f"u{number:05d}.wav") for number in range(int(10 * minutes))}
            data_dir.mkdir()
            for number, path in enumerate(wavs.values()):
                soundfile.write(path, utterances[number % 10], RATE)
            write_table(data_dir / "wav.scp", wavs)
            write_table(data_dir / "utt2spk", dict.fromkeys(wavs, "s"))
            command = [sys.executable, "-c", script, "extract", data_dir, "--nj", "1"]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            seconds, megabytes = map(float, done.stdout.split())
            print(f"extract {minutes} minutes: {seconds:.2f} s CPU, at most {megabytes:.0f} MB", flush=True)


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--fallback", action="store_true", help="compare the NumPy fallback with torchaudio alone")
    args = parser.parse_args()
    description, speech = load_speech(args.utts)
    seconds = sum(map(len, speech)) / RATE
    if args.fallback:
        os.environ["ASRKIT_NO_NATIVE"] = "1"
        peers = {"torchaudio": lambda: torchaudio_run(speech)}
        ratios = compare("NumPy fallback", our_run(speech), peers, seconds, args.rounds)
        print(json.dumps({"ratios": {f"numpy_fallback_{name}": round(ratio, 2) for name, ratio in ratios.items()}}))
        return

    native = kernel("_mfcc")
    print(f"asrkit kernel: {'none, NumPy reference' if native is None else native.BUILD}; 1 thread, CPU time")
    print_versions("numpy", "torch", "torchaudio", "kaldi-native-fbank", "librosa", "soundfile")
    print(f"{len(speech)} utterances ({description}), {seconds:.0f} s")
    print_agreement(speech)
    peers = {
        "torchaudio": lambda: torchaudio_run(speech),
        "kaldi_native_fbank": lambda: kaldi_native_fbank_run(speech),
        "librosa": lambda: librosa_run(speech),
    }
    ratios = compare("in memory", our_run(speech), peers, seconds, args.rounds)
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{number}.wav" for number in range(len(speech))]
        for path, samples in zip(paths, speech, strict=True):
            soundfile.write(path, np.clip(samples, -32768, 32767).astype(np.int16), RATE)
        extractor = FeatureExtractor(CONFIG)
        found = compare(
            "from WAV files",
            lambda: [extractor.full(read_audio(path)) for path in paths],
            {"torchaudio": lambda: torchaudio_files_run(paths)},
            seconds,
            args.rounds,
        )
    ratios |= {f"end_to_end_{name}": ratio for name, ratio in found.items()}
    print_growth(3)
    print_extraction()
    sys.stdout.flush()
    command = [sys.executable, "-m", "tests.bench.features", "--fallback", "--utts", str(args.utts)]
    fallback = subprocess.run([*command, "--rounds", str(args.rounds)], check=True, stdout=subprocess.PIPE, text=True)
    *lines, last = fallback.stdout.strip().split("\n")
    print("\n".join(lines))
    ratios |= json.loads(last)["ratios"]
    print(json.dumps({"ratios": {name: round(ratio, 2) for name, ratio in ratios.items()}}))


if __name__ == "__main__":
    main()
