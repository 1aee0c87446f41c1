"""Train a PyTorch model of your own on asrkit's features: here two recurrent layers with CTC, on a folder of audio.

    python examples/features_for_pytorch.py FOLDER [EPOCHS]

FOLDER holds the audio and corpus.csv with the columns audio, phones and speaker (docs/own-corpus.md).
"""

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import asrkit

folder = Path(sys.argv[1])
num_epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
extractor = asrkit.FeatureExtractor(asrkit.FeatureConfig(cmvn="utterance"))


def load_features(path: Path) -> np.ndarray:
    """MFCC with deltas, normalized over the file: (num_frames, 39) float32."""
    waveform = asrkit.read_audio(path, sample_rate=extractor.config.sample_rate)
    return extractor.full(waveform, str(path))


class PhoneNetwork(nn.Module):
    """Features (N, T, D) to log-probabilities (T, N, V), as nn.CTCLoss takes them."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.GRU(dim, 64, num_layers=2, batch_first=True)
        self.output = nn.Linear(64, num_classes)

    def forward(self, feats: Tensor) -> Tensor:
        hidden, _ = self.layers(feats)
        return self.output(hidden).log_softmax(dim=-1).transpose(0, 1)


with open(folder / "corpus.csv", encoding="utf-8", newline="") as stream:
    rows = list(csv.DictReader(stream))
phones = sorted({phone for row in rows for phone in row["phones"].split()})
ids = {phone: index for index, phone in enumerate(phones, 1)}  # 0 is the blank
feats = [torch.from_numpy(load_features(folder / row["audio"])) for row in rows]
labels = [torch.tensor([ids[phone] for phone in row["phones"].split()]) for row in rows]
print(f"{len(feats)} utterances, features of the first {tuple(feats[0].shape)}, {len(phones)} phones")

torch.manual_seed(0)
network, loss_of = PhoneNetwork(feats[0].shape[1], len(phones) + 1), nn.CTCLoss()
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
num_frames, num_labels = (torch.tensor([len(item) for item in items]) for items in (feats, labels))
for epoch in range(1, num_epochs + 1):
    total = 0.0
    for batch in torch.randperm(len(feats)).split(8):
        log_probs = network(pad_sequence([feats[i] for i in batch], batch_first=True))
        targets = torch.cat([labels[i] for i in batch])
        loss = loss_of(log_probs, targets, num_frames[batch], num_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        total += loss.item() * len(batch)
    print(f"epoch {epoch}: loss {total / len(feats):.3f}")
