"""Recognition on the command line: `python -m tests.bench.runtime` in an environment with asrkit alone.

Start-up: the whole process of `asrkit transcribe` on a file of 3 s, in turn with `python -c "import torch"`. Printed
are the medians of the rounds' ratios of elapsed and of CPU time, and the peak memory. Speed: CPU time of the process on
an hour of audio in one file, with one thread, divided by the length of the audio.

The model is a bidirectional LSTM of 3 x 128 units with steps of 30 ms, and a 5-gram of phones. It is not trained, but
its output is scaled so that it finds a number of phones as in speech. --model takes a trained one. The audio is real
speech if ASRKIT_SHARED or ../shared holds speechocean762, else a similar signal. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from asrkit.config.experiment_config import ExperimentConfig
from tests.bench import print_versions
from tests.bench.decoding import phone_chain
from tests.bench.features import RATE, load_speech

PHONES = [f"p{i}" for i in range(40)]


# This runs in a small process, because the peak memory of a child is at least that of the process that starts it.
_MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
sys.exit(status)
"""


def run(command: list[str]) -> list[float]:
    """Elapsed seconds, CPU seconds and peak memory (MB) of a process. Its output is thrown away."""
    done = subprocess.run([sys.executable, "-c", _MEASURE, *command], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def make_model(directory: Path, samples: np.ndarray, config: ExperimentConfig | None = None) -> Path:
    """Make and export the experiment described above. Its settings are the defaults, or `config`."""
    import torch

    from asrkit import experiment
    from asrkit.features.cmvn import accumulate
    from asrkit.features.mfcc import FeatureExtractor
    from asrkit.inference.export import export_experiment
    from asrkit.lang.tokens import TokenTable
    from asrkit.lm.ngram import train_ngram, write_arpa
    from asrkit.types import Supplement, Waveform

    config, tokens, rng = config or ExperimentConfig(), TokenTable(PHONES), np.random.default_rng(0)
    chain = phone_chain(rng)
    sentences = []
    for _ in range(2000):
        ids = [0, 1]
        while len(ids) < 40:
            ids.append(rng.choice(len(PHONES), p=chain[ids[-2], ids[-1]]))
        sentences.append([PHONES[i] for i in ids[2:]])
    lm = train_ngram(sentences, 5, PHONES)
    print(f"language model: {sum(map(len, lm.ngrams))} n-grams")
    write_arpa(lm, directory / "lm.arpa")
    static = FeatureExtractor(config.features)(Waveform(samples, RATE))
    network = experiment.make_model(config, tokens)
    trained = experiment.Experiment(config, tokens, network.eval(), accumulate(static), None)
    with torch.no_grad():
        # Make the output peaky, with blank in two of three steps.
        network.output.weight *= 40
        scores = experiment.TorchModel(trained).log_probs(static)
        rest = np.sort(scores[:, 1:].max(axis=1) - scores[:, 0])
        network.output.bias[0] += float(rest[len(rest) * 2 // 3])
    lm_text = (directory / "lm.arpa").read_text(encoding="utf-8")
    experiment.save_experiment(directory, config, tokens, network, accumulate(static), Supplement(lm_text))
    export_experiment(directory)
    return directory


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a trained model in place of the made-up one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    print_versions("numpy", "onnxruntime", "torch")
    name, utts = load_speech(200)
    speech = np.concatenate(utts)
    print(f"audio: {name}")
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        model = args.model or str(make_model(directory, speech[: 60 * RATE]))
        short, long = directory / "short.wav", directory / "long.wav"
        soundfile.write(short, speech[: 3 * RATE].astype(np.int16), RATE)
        soundfile.write(long, np.resize(speech, round(60 * args.minutes * RATE)).astype(np.int16), RATE)
        transcribe = [sys.executable, "-m", "asrkit", "transcribe", "--model", model]
        commands = {"transcribe": [*transcribe, str(short)], "import torch": [sys.executable, "-c", "import torch"]}
        rounds = [{name: run(command) for name, command in commands.items()} for _ in range(args.rounds + 1)][1:]
        elapsed, cpu, memory = (
            {name: statistics.median(found[name][i] for found in rounds) for name in commands} for i in range(3)
        )
        for name in commands:
            print(f"{name}: {elapsed[name]:.2f} s elapsed, {cpu[name]:.2f} s CPU, peak {memory[name]:.0f} MB")
        ratios = [
            statistics.median(found["transcribe"][i] / found["import torch"][i] for found in rounds) for i in (0, 1)
        ]
        print(f"transcribe / import torch: {ratios[0]:.2f} of elapsed time, {ratios[1]:.2f} of CPU time")
        _, seconds, peak = run([*transcribe, str(long)])
        factor = seconds / (60 * args.minutes)
        print(
            f"{args.minutes:g} minutes in one file: {seconds:.1f} s CPU, real-time factor {factor:.4f}, {peak:.0f} MB"
        )
    found = {"start_up": ratios[0], "start_up_cpu": ratios[1], "start_up_mb": memory["transcribe"], "rtf": factor}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
