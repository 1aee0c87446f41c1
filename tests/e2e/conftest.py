"""A corpus of tones, small enough to train on in a few seconds, and an experiment trained on it by the command line."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.formats.data_dir import write_data_dir
from asrkit.lang.tokens import TokenTable
from asrkit.types import PhoneTime, Utterance

TONES_HZ = {"a": 400, "ʃ": 1000, "#": 2500}
CONFIG = """\
features: {cmvn: speaker}
model: {bidirectional: true, num_layers: 1, hidden_size: 24, dropout: 0.1, self_conditioning: false, stack: 3, skip: 3}
training: {num_epochs: 14, batch_size: 4, max_lr: 0.02, input_noise: 0.2,
  warmup: 0.12, weight_decay: 0.01, augment: {speeds: [], vtlp: 0, time_masks: 0}}
decoding: {beam: 8, lm_weight: 0.3, insertion_bonus: 0.0}
"""


def run_asrkit(*args, check=True):
    """`asrkit ARGS` in this process, which need not load PyTorch again."""
    arguments = [*map(str, args)]
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    done = subprocess.CompletedProcess(arguments, status, *texts)
    assert not check or done.returncode == 0, done.stderr
    return done


def run_process(*args, check=True):
    """`python -m asrkit ARGS` in a process of its own."""
    command = [sys.executable, "-m", "asrkit", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def make_set(directory: Path, audio: Path, prefix: str, num_spks: int, num_utts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    audio.mkdir(exist_ok=True)
    utts, durations = [], {}
    for spk in range(num_spks):
        for number in range(num_utts):
            utt_id = f"{prefix}{spk}-{number}"
            phones = [str(phone) for phone in rng.choice(list(TONES_HZ), rng.integers(2, 7))]
            pieces, times, now = [np.zeros(1600)], [], 0.1
            for phone in phones:
                length = int(rng.integers(1600, 3200))
                wave = np.sin(2 * np.pi * TONES_HZ[phone] * (1 + 0.05 * spk) * np.arange(length) / 16000)
                pieces += [0.3 * wave, np.zeros(800)]
                times.append(PhoneTime(phone, now, now + length / 16000))
                now += (length + 800) / 16000
            samples = np.concatenate(pieces)
            samples += rng.normal(0, 0.003, len(samples))
            soundfile.write(audio / f"{utt_id}.wav", samples, 16000)
            durations[utt_id] = len(samples) / 16000
            path = str(audio / f"{utt_id}.wav")
            utts.append(
                Utterance(utt_id, f"{prefix}{spk}", path, tuple(phones), sex="mf"[spk % 2], phone_times=tuple(times))
            )
    write_data_dir(directory, utts, durations)


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """Directory with data/, config.yaml and a trained, decoded experiment exp/."""
    root = tmp_path_factory.mktemp("tones")
    data = root / "data"
    for name, num_spks, num_utts, seed in (("train", 6, 8, 1), ("dev", 2, 5, 2), ("test", 3, 7, 3)):
        make_set(data / name, root / "audio", name, num_spks, num_utts, seed)
    TokenTable(sorted(TONES_HZ)).write(data / "tokens.txt")
    (root / "config.yaml").write_text(CONFIG)
    run_asrkit("validate", data / "train")
    run_asrkit("extract", data / "train", data / "dev", data / "test", "--config", root / "config.yaml", "--nj", 2)
    lm = data / "lm.arpa"
    run_asrkit("train-lm", "--train", data / "train", "--tokens", data / "tokens.txt", "--order", 2, "--out-file", lm)
    run_asrkit(*train_args(root, root / "exp"))
    run_asrkit("decode", "--model", root / "exp", "--data", data / "test", "--out", root / "exp/decode_test", "--nj", 1)
    return root


def train_args(root, exp):
    data = root / "data"
    return (
        *("train", "--config", root / "config.yaml", "--train", data / "train", "--dev", data / "dev"),
        *("--tokens", data / "tokens.txt", "--lm", data / "lm.arpa", "--out", exp),
    )
