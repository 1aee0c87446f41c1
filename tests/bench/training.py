"""Training against other methods: `python -m tests.bench.training` in an environment that has SpeechBrain.

The model is a bidirectional LSTM of three layers of 128 with a linear output, on 39 features every 10 ms. It is trained
with CTC in batches of 16, with AdamW and clipped gradients, without layer normalisation and dropout. Lengths are drawn
like those of read sentences. The features are noise, which does not influence the time. Each contestant is a separate
process with one thread (except two_threads). They take turns, and the result is the median of the rounds' ratios.

    asrkit        an epoch of `asrkit train`
    packed        pack_padded_sequence and nn.LSTM, the usual exact way
    speechbrain   SpeechBrain's Brain.fit_batch with its LSTM; padding leaks into its backward direction
    bare          forward and backward of nn.LSTM alone on batches padded in advance: no output, loss or optimiser
    bare_kept     the same, in a process that keeps freed memory as ours does
    two_threads   asrkit with training.num_threads 2

The last line is JSON: {"ratios": {...}}. It has the CPU times of packed and speechbrain divided by ours, our CPU time
divided by bare's as bare_lstm_overhead, and the elapsed time with one thread divided by that with two as two_cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.bench import print_versions

FEAT_DIM, HIDDEN, LAYERS, NUM_TOKENS, BATCH_SIZE, CLIP, RATE = 39, 128, 3, 41, 16, 5.0, 1e-3
FRAMES_A_TOKEN = 9


def utterance_lens(number: int) -> np.ndarray:
    """Numbers of frames, distributed roughly like those of read sentences."""
    return np.clip(100 * np.random.default_rng(0).lognormal(1.25, 0.4, number), 100, 1500).astype(int)


def make_set(number: int):
    """A TrainingSet of `number` utterances with random features and tokens."""
    from asrkit.training.dataset import TrainingSet

    rng = np.random.default_rng(1)
    lens = {f"u{i:04d}": int(length) for i, length in enumerate(utterance_lens(number))}
    feats = {name: rng.standard_normal((length, FEAT_DIM), dtype=np.float32) for name, length in lens.items()}
    tokens = {name: rng.integers(1, NUM_TOKENS, length // FRAMES_A_TOKEN).tolist() for name, length in lens.items()}
    return TrainingSet(feats, lens, tokens)


def make_run(number: int, settings: dict[str, int], directory: Path, ranks=None) -> Callable[[], object]:
    """An epoch of our training, by one process or by ranks of a job."""
    from asrkit.models.acoustic import AcousticModel
    from asrkit.models.config import ModelConfig
    from asrkit.training.config import TrainingConfig
    from asrkit.training.loop import train_epoch
    from asrkit.training.memory import keep_freed_memory
    from asrkit.training.ranks import ALONE
    from asrkit.training.state import EpochSums, TrainingState
    from asrkit.training.step import LossSum

    keep_freed_memory()
    data = make_set(number)
    model = AcousticModel(
        ModelConfig(
            num_layers=LAYERS,
            hidden_size=HIDDEN,
            dropout=0.0,
            layer_norm=False,
            stack=1,
            skip=1,
            self_conditioning=False,
        ),
        FEAT_DIM,
        NUM_TOKENS,
    )
    settings = {"batch_size": BATCH_SIZE, **settings}
    config = TrainingConfig(
        schedule="constant", max_lr=RATE, clip_norm=CLIP, input_noise=0.0, checkpoint_minutes=1e6, **settings
    )
    state = TrainingState(model, config, -(-len(data) // config.batch_size), directory, "bench", ranks or ALONE)

    def run() -> None:
        state.sums, state.loss = EpochSums(), LossSum()
        train_epoch(state, data)

    return run


def padded_batches(number: int) -> list:
    """The batches of an epoch."""
    data = make_set(number)
    return [data.load(utt_ids) for utt_ids in data.batches(BATCH_SIZE, np.random.default_rng((1, 1)))]


def packed_run(number: int) -> Callable[[], object]:
    """An epoch in plain PyTorch, with packed sequences."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    rnn = nn.LSTM(FEAT_DIM, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
    output = nn.Linear(2 * HIDDEN, NUM_TOKENS)
    weights = [*rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.AdamW(weights, RATE)
    batches = padded_batches(number)

    def run() -> None:
        for batch in batches:
            frames = pack_padded_sequence(batch.feats, batch.feat_lens, batch_first=True, enforce_sorted=False)
            hidden, lens = pad_packed_sequence(rnn(frames)[0], batch_first=True)
            log_probs = torch.log_softmax(output(hidden), dim=2).transpose(0, 1)
            loss = nn.functional.ctc_loss(log_probs, batch.tokens, lens, batch.token_lens)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()

    return run


def speechbrain_run(number: int) -> Callable[[], object]:
    """An epoch of SpeechBrain's training."""
    import speechbrain
    import torch
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.losses import ctc_loss
    from speechbrain.nnet.RNN import LSTM

    class Trainer(speechbrain.Brain):
        def compute_forward(self, batch, stage):
            hidden, _ = self.modules.rnn(batch.feats)
            return torch.log_softmax(self.modules.output(hidden), dim=2)

        def compute_objectives(self, predictions, batch, stage):
            lens, token_lens = (
                sizes / sizes.max() for sizes in (batch.feat_lens, batch.token_lens)
            )  # relative, as SpeechBrain has them
            return ctc_loss(predictions, batch.tokens, lens, token_lens, blank_index=0)

    modules = {
        "rnn": LSTM(HIDDEN, input_size=FEAT_DIM, num_layers=LAYERS, bidirectional=True),
        "output": Linear(NUM_TOKENS, input_size=2 * HIDDEN),
    }
    brain = Trainer(
        modules,
        lambda weights: torch.optim.AdamW(weights, RATE),
        run_opts={"device": "cpu", "max_grad_norm": CLIP},
    )
    brain.on_fit_start()
    brain.modules.train()
    batches = padded_batches(number)

    def run() -> None:
        for batch in batches:
            brain.fit_batch(batch)

    return run


def bare_run(number: int, keep: bool) -> Callable[[], object]:
    """Forward and backward of nn.LSTM for the batches of an epoch. `keep`: whether freed memory is kept."""
    import torch
    from torch import nn

    from asrkit.training.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    rnn = nn.LSTM(FEAT_DIM, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
    feats = [batch.feats for batch in padded_batches(number)]
    grads = [torch.ones(*frames.shape[:2], 2 * HIDDEN) for frames in feats]

    def run() -> None:
        for frames, grad in zip(feats, grads, strict=True):
            rnn(frames)[0].backward(grad)

    return run


CONTESTANTS: dict[str, Callable[[int, Path], Callable[[], object]]] = {
    "asrkit": lambda number, directory: make_run(number, {"num_threads": 1}, directory),
    "packed": lambda number, _: packed_run(number),
    "speechbrain": lambda number, _: speechbrain_run(number),
    "bare": lambda number, _: bare_run(number, keep=False),
    "bare_kept": lambda number, _: bare_run(number, keep=True),
    "two_threads": lambda number, directory: make_run(number, {"num_threads": 2}, directory),
}


def serve(name: str, number: int) -> None:
    """Run an epoch for every line of stdin.

    Prints "ready", or what is missing, and then the CPU and elapsed seconds of each epoch.
    """
    import torch

    out, sys.stdout = sys.stdout, sys.stderr
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as directory:
        try:
            run = CONTESTANTS[name](number, Path(directory))
        except (ImportError, OSError) as error:
            print(f"it cannot be imported: {error}".replace("\n", " "), file=out, flush=True)
            return
        print("ready", file=out, flush=True)
        for _ in sys.stdin:
            cpu, elapsed = time.process_time(), time.perf_counter()
            run()
            print(time.process_time() - cpu, time.perf_counter() - elapsed, file=out, flush=True)


class Contestant:
    """A process that runs epochs on demand.

    In each turn it runs four, which gives its threads time to spread over the cores; "packed" runs one.
    """

    def __init__(self, name: str, number: int):
        command = [sys.executable, "-m", "tests.bench.training", "--serve", name, "--utts", str(number)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, bufsize=1, **pipes)
        self.epochs = 1 if name == "packed" else 4
        self.cpu: list[float] = []
        self.elapsed: list[float] = []

    def state(self) -> str:
        """Wait for the process. Returns "ready", or the reason why it cannot run."""
        return self.process.stdout.readline().strip()

    def run(self) -> None:
        """Run the epochs of a turn and note their times."""
        self.process.stdin.write("\n" * self.epochs)
        times = [map(float, self.process.stdout.readline().split()) for _ in range(self.epochs)]
        cpu, elapsed = map(sum, zip(*times, strict=True))
        self.cpu.append(cpu / self.epochs)
        self.elapsed.append(elapsed / self.epochs)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of two lists of times."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 2)


def compare(number: int, num_rounds: int) -> dict[str, float]:
    """Print the speed of all contestants. Returns the ratios."""
    runs = {name: Contestant(name, number) for name in CONTESTANTS}
    try:
        for name, run in list(runs.items()):
            if (state := run.state()) != "ready":
                print(f"{name}: left out, {state}", flush=True)
                runs.pop(name).close()
        for _ in range(1 + num_rounds):
            for run in runs.values():
                run.run()
    finally:
        for run in runs.values():
            run.close()
    for name, run in runs.items():
        del run.cpu[0], run.elapsed[0]  # the warm-up
        cpu, elapsed = statistics.median(run.cpu), statistics.median(run.elapsed)
        print(f"{name}: {number / elapsed:.1f} utterances/s, {1000 * cpu / number:.1f} ms of CPU time an utterance")
    ours = runs["asrkit"]
    print(f"time of ours over bare with kept memory: {median_ratio(ours.cpu, runs['bare_kept'].cpu)}")
    ratios = {name: median_ratio(runs[name].cpu, ours.cpu) for name in ("packed", "speechbrain") if name in runs}
    ratios["bare_lstm_overhead"] = median_ratio(ours.cpu, runs["bare"].cpu)
    ratios["two_cores"] = median_ratio(ours.elapsed, runs["two_threads"].elapsed)
    return ratios


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="a trial: 2 utterances, one round")
    parser.add_argument("--serve", choices=CONTESTANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.utts, args.rounds = 2, 1
    if args.serve:
        serve(args.serve, args.utts)
        return
    from asrkit._native import kernel

    native = kernel("_lstm")
    print(f"asrkit kernel: {'none' if native is None else native.BUILD}; {os.cpu_count()} CPUs")
    print_versions("torch", "speechbrain")
    lens = utterance_lens(args.utts)
    print(f"{args.utts} utterances of {lens.mean():.0f} frames on average; {args.rounds} rounds")
    print(json.dumps({"ratios": compare(args.utts, args.rounds)}))


if __name__ == "__main__":
    main()
