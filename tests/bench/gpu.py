"""A training on a GPU against bare PyTorch, and against the CPU: `python -m tests.bench.gpu [--device cpu]`.

The model is a bidirectional LSTM of three layers of 128 with CTC, on 39 features, in batches of 16. It is trained with
AdamW and clipped gradients, without layer normalisation and dropout. The features are noise, which does not influence
the time.

    asrkit    an epoch of our training step
    bare      the same with nn.LSTM (cuDNN on a GPU) over padded batches, nn.Linear and PyTorch's CTC
    cpu       as asrkit, on the CPU with one thread

All data lies on the device beforehand. The runs take turns. A time is the median of the rounds, a ratio the median of
the rounds' ratios. The last line is JSON: {"ratios": {"bare": ..., "cpu": ...}}, each our time on the device divided by
theirs. On device cpu there is no third run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch, bucket, collate
from asrkit.models.config import ModelConfig
from asrkit.training.step import compute_gradients
from tests.bench import print_versions

FEAT_DIM, HIDDEN, LAYERS, NUM_TOKENS, BATCH_SIZE, CLIP, RATE = 39, 128, 3, 41, 16, 5.0, 1e-3


def make_batches(number: int, device: torch.device) -> list[Batch]:
    """The batches of an epoch of `number` utterances, which last as long as read sentences do."""
    rng = np.random.default_rng(1)
    lens = np.clip(100 * rng.lognormal(1.25, 0.4, number), 100, 1500).astype(int)
    num_frames = {f"u{i:04d}": int(length) for i, length in enumerate(lens)}
    feats = {name: rng.standard_normal((length, FEAT_DIM), np.float32) for name, length in num_frames.items()}
    tokens = {name: rng.integers(1, NUM_TOKENS, length // 9).tolist() for name, length in num_frames.items()}
    batches = [collate(utt_ids, feats, tokens) for utt_ids in bucket(num_frames, BATCH_SIZE, rng)]
    return [
        replace(
            batch, feats=batch.feats.to(device), feat_lens=batch.feat_lens.to(device), tokens=batch.tokens.to(device)
        )
        for batch in batches
    ]


def our_run(number: int, device: torch.device) -> Callable[[], None]:
    """An epoch of our training step."""
    sizes = {"num_layers": LAYERS, "hidden_size": HIDDEN, "stack": 1, "skip": 1}
    config = ModelConfig(dropout=0.0, layer_norm=False, self_conditioning=False, **sizes)
    model = AcousticModel(config, FEAT_DIM, NUM_TOKENS).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    batches = make_batches(number, device)

    def run() -> None:
        for batch in batches:
            compute_gradients(model, batch, None, 0.0)
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()

    return run


def bare_run(number: int, device: torch.device) -> Callable[[], None]:
    """An epoch in plain PyTorch. The backward direction reads padding first, which ours does not."""
    rnn = nn.LSTM(FEAT_DIM, HIDDEN, LAYERS, batch_first=True, bidirectional=True).to(device)
    output = nn.Linear(2 * HIDDEN, NUM_TOKENS).to(device)
    weights = [*rnn.parameters(), *output.parameters()]
    optimizer = torch.optim.AdamW(weights, RATE)
    batches = make_batches(number, device)

    def run() -> None:
        for batch in batches:
            log_probs = torch.log_softmax(output(rnn(batch.feats)[0]), dim=2).transpose(0, 1)
            loss = nn.functional.ctc_loss(log_probs, batch.tokens, batch.feat_lens, batch.token_lens)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, CLIP)
            optimizer.step()

    return run


def measure(runs: dict[str, Callable[[], None]], device: torch.device, rounds: int) -> dict[str, list[float]]:
    """The elapsed seconds of each run in each round, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()  # the GPU works on after the call
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--utts", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    device, cpu = torch.device(args.device), torch.device("cpu")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU; give --device cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print_versions("numpy", "torch")
    print(f"device: {torch.cuda.get_device_name() if device.type == 'cuda' else 'cpu, 1 thread'}")
    runs = {"asrkit": our_run(args.utts, device), "bare": bare_run(args.utts, device)}
    if device != cpu:
        runs["cpu"] = our_run(args.utts, cpu)
    seconds = measure(runs, device, args.rounds)
    ours = seconds.pop("asrkit")
    print(f"asrkit: {statistics.median(ours):.3f} seconds an epoch of {args.utts} utterances")
    ratios = {}
    for name, theirs in seconds.items():
        ratio = statistics.median(own / other for own, other in zip(ours, theirs, strict=True))
        print(f"{name}: {statistics.median(theirs):.3f} seconds an epoch; ours takes {ratio:.3f} times as long")
        ratios[name] = round(ratio, 3)
    print(json.dumps({"ratios": ratios}))


if __name__ == "__main__":
    main()
