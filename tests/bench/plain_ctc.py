"""The baseline for asrkit's recipes: CTC training as commonly written in plain PyTorch.

    python -m tests.bench.plain_ctc --data recipes/speechocean762/data --out DIR --epochs N [--test]

It reads features and phones of data directories from stages 0 and 1 of a recipe (MFCC, mean and variance of each
speaker). It uses only common practice: three frames stacked from a random start, torch's bidirectional LSTM on padded
batches, dropout also before the output, noise on the inputs, Adam with a rate that falls linearly in the last third,
clipped gradients, greedy decoding, and the epoch of lowest dev PER. It has one thread.

It prints the dev PER of each epoch with the CPU seconds so far. It writes the hypotheses of the best epoch to DIR/dev
(and DIR/test). `asrkit compare` can compare them with those of another system.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import torch
from torch import nn

from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import FeatureLoader
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.per import score

STACK, HIDDEN, LAYERS, DROPOUT, NOISE, RATE, CLIP, BATCH_SIZE = 3, 128, 3, 0.4, 0.5, 3e-3, 5.0, 8


class Model(nn.Module):
    """A bidirectional LSTM with a linear output."""

    def __init__(self, feat_dim: int, num_tokens: int):
        super().__init__()
        settings = {"batch_first": True, "bidirectional": True, "dropout": DROPOUT}
        self.lstm = nn.LSTM(STACK * feat_dim, HIDDEN, LAYERS, **settings)
        self.output = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(2 * HIDDEN, num_tokens))

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (N, T, V) from stacked frames (N, T, D)."""
        return self.output(self.lstm(steps)[0]).log_softmax(dim=2)


def read(data_dir: Path, tokens: TokenTable) -> list[tuple[str, torch.Tensor, tuple[str, ...]]]:
    """The id, features (T, D) and phones of each utterance of a data directory."""
    feats = FeatureLoader(data_dir, FeatureConfig(cmvn="speaker"))
    lines = [line.split() for line in (data_dir / "text").read_text(encoding="utf-8").splitlines()]
    return [(utt_id, torch.from_numpy(feats[utt_id]), tuple(phones)) for utt_id, *phones in lines]


def stacked(feats: torch.Tensor, start: int) -> torch.Tensor:
    """Stack the frames (T, D) from frame `start` on: (T // STACK, STACK * D)."""
    num_steps = (len(feats) - start) // STACK
    return feats[start : start + num_steps * STACK].reshape(num_steps, -1)


def decode(model: nn.Module, data: list, tokens: TokenTable) -> dict[str, tuple[str, ...]]:
    """The phones of each utterance, by greedy decoding."""
    model.eval()
    with torch.inference_mode():
        best = {utt_id: model(stacked(feats, 0)[None])[0].argmax(dim=1).tolist() for utt_id, feats, _ in data}
    return {utt_id: tokens.decode(i for i, _ in itertools.groupby(ids) if i) for utt_id, ids in best.items()}


def write(path: Path, hyps: dict[str, tuple[str, ...]]) -> None:
    """Write hypotheses, a line per utterance."""
    path.write_text("".join(f"{utt_id} {' '.join(phones)}\n" for utt_id, phones in hyps.items()), encoding="utf-8")


def main() -> None:
    """Run the training with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data of a recipe: train, dev, test, tokens.txt")
    parser.add_argument("--out", type=Path, required=True, help="directory for the hypotheses")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--test", action="store_true", help="decode the test set as well")
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    tokens = TokenTable.read(args.data / "tokens.txt")
    train, dev = read(args.data / "train", tokens), read(args.data / "dev", tokens)
    refs = {utt_id: phones for utt_id, _, phones in dev}
    model = Model(train[0][1].shape[1], len(tokens))
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    ctc = nn.CTCLoss(reduction="sum", zero_infinity=True)
    args.out.mkdir(parents=True, exist_ok=True)
    lowest, seconds = float("inf"), 0.0
    started = time.process_time()
    for epoch in range(1, args.epochs + 1):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 3 * (args.epochs + 1 - epoch) / args.epochs)
        model.train()
        lens = [len(feats) * (0.9 + 0.2 * torch.rand(()).item()) for _, feats, _ in train]
        order = sorted(range(len(train)), key=lens.__getitem__)
        batches = [order[i : i + BATCH_SIZE] for i in range(0, len(order), BATCH_SIZE)]
        for index in torch.randperm(len(batches)).tolist():
            batch = [train[i] for i in batches[index]]
            steps = [stacked(feats, int(torch.randint(STACK, ()))) for _, feats, _ in batch]
            labels = [tokens.encode(phones) for _, _, phones in batch]
            padded = nn.utils.rnn.pad_sequence(steps, batch_first=True)
            log_probs = model(padded + NOISE * torch.randn_like(padded))
            loss = ctc(
                log_probs.transpose(0, 1),
                torch.tensor([i for ids in labels for i in ids]),
                torch.tensor([len(step) for step in steps]),
                torch.tensor([len(ids) for ids in labels]),
            )
            optimizer.zero_grad()
            (loss / sum(map(len, labels))).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
        hyps = decode(model, dev, tokens)
        per, seconds = score(refs, hyps).per, time.process_time() - started
        print(f"epoch {epoch}/{args.epochs}: dev PER {per:.2f} %, {seconds:.0f} CPU seconds", flush=True)
        if per < lowest:
            lowest = per
            write(args.out / "dev", hyps)
            torch.save(model.state_dict(), args.out / "best.pt")
    print(f"dev PER {lowest:.2f} %, {seconds:.0f} CPU seconds")
    if args.test:
        model.load_state_dict(torch.load(args.out / "best.pt", weights_only=True))
        write(args.out / "test", decode(model, read(args.data / "test", tokens), tokens))


if __name__ == "__main__":
    main()
