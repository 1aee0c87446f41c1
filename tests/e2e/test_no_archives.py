"""The verbs on data directories without archives: what they write is what they write with archives, byte by byte."""

import shutil
from pathlib import Path

import pytest
import torch

from asrkit.cli.main import main
from asrkit.features.config import FeatureConfig
from tests.backends import extractor_or_skip
from tests.e2e.conftest import train_args

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bare(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the data and the experiment, whose data directories hold no features."""
    extractor_or_skip(FeatureConfig(backend="native"))
    root = tmp_path_factory.mktemp("bare")
    for name in ("data", "exp"):
        shutil.copytree(tones / name, root / name, ignore=shutil.ignore_patterns("split*", ".index*"))
    shutil.copy(tones / "config.yaml", root)
    data_dirs = [str(root / "data" / name) for name in ("train", "dev", "test")]
    command = ["extract", *data_dirs, "--config", str(root / "config.yaml"), "--nj", "1", "--no-archives"]
    assert main(command) == 0
    assert not [*root.glob("data/*/feats.scp"), *root.glob("data/*/feats.*.ark")]
    return root


def run(*args: object) -> None:
    assert main([*map(str, args)]) == 0


def test_a_trained_experiment_is_up_to_date(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("--no-archives", None, "--no-archives"):
        run("extract", bare / "data/train", "--config", bare / "config.yaml", "--nj", 1, *filter(None, [form]))
        run(*train_args(bare, bare / "exp"))
        assert "training is up to date" in capsys.readouterr().err


def test_decoding_tuning_and_reports_are_the_same(tones: Path, bare: Path, tmp_path: Path) -> None:
    found = {}
    for root in (tones, bare):
        exp, out = tmp_path / root.name / "exp", tmp_path / root.name
        shutil.copytree(root / "exp", exp)
        for name in ("dev", "test"):
            data = root / "data" / name
            run("decode", "--model", exp, "--data", data, "--out", out / name, "--nj", 1, "--ctm", "--nbest", 2)
        dev = "--data", root / "data/dev", "--decode-dir", out / "dev"
        run("tune", "--model", exp, *dev, "--nj", 1)
        run("analyze", "--model", exp, *dev, "--nj", 1)
        run("align", "--model", exp, "--data", root / "data/test", "--format", "ctm", "--out", out / "aligned")
        run("validate", root / "data/test")
        shutil.copytree(out / "test", exp / "decode_test", dirs_exist_ok=True)
        run("report", "--model", exp, "--data", root / "data/test")
        names = ("test/hyp", "test/phones.ctm", "test/nbest.jsonl", "test/log_probs.ark", "dev/analysis.json")
        names += ("exp/tune/tune.json", "exp/decode_test/report.txt")
        aligned = [path.read_bytes() for path in sorted((out / "aligned").rglob("*.ctm"))]
        assert aligned
        written = [(out / name).read_bytes().replace(str(root).encode(), b"") for name in names]
        found[root] = [each.replace(str(out).encode(), b"") for each in [*written, *aligned]]
    assert found[bare] == found[tones]


def test_training_gives_the_same_weights(tones: Path, bare: Path, tmp_path: Path) -> None:
    """With the default CMVN over the speech of a speaker, augmentation of the audio, and frame labels."""
    found = []
    settings = ["features.cmvn=speech_speaker", "training.num_epochs=1", "training.augment.speeds=[0.9, 1.0, 1.1]"]
    settings += ["training.augment.noise_prob=0.3", "model.head=joint"]
    for root in (tones, bare):
        exp = tmp_path / root.name
        run(*train_args(root, exp), *(word for each in settings for word in ("--set", each)))
        weights = torch.load(exp / "checkpoint.pt", weights_only=True)["model"]
        found.append(b"".join(value.numpy().tobytes() for value in weights.values()))
    assert found[0] == found[1]


def test_shards_are_found_and_missing_audio_is_named_before_training(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    ignored = shutil.ignore_patterns("speech*", "cmvn*", "utt2num*", "utt2crc", "feats*", ".*")
    shutil.copytree(bare / "data", data, ignore=ignored)
    run("split", data / "train", "--shards", 2)
    features = "--config", bare / "config.yaml", "--nj", 1, "--no-archives"
    run("extract", data / "train", data / "dev", *features)  # of the whole first, which then is no sharded directory
    run("extract", data / "train/split2", *features)
    command = [data / "train/split2" if each == bare / "data/train" else each for each in train_args(bare, tmp_path)]
    run(*command, "--set", "training.num_epochs=1", "--set", "training.shuffle_window=16", "--out", tmp_path / "exp")
    assert "48 training utterances" in capsys.readouterr().err

    rows = (data / "dev/wav.scp").read_text().replace("/audio/dev0-1.wav", "/elsewhere/dev0-1.wav")
    (data / "dev/wav.scp").write_text(rows)
    command = [data / "dev" if each == bare / "data/dev" else each for each in train_args(bare, tmp_path / "new")]
    assert main([*map(str, command)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"asrkit train: error: {data}/dev/wav.scp: dev0-1: ")
    assert error.endswith("/elsewhere/dev0-1.wav: no such file; bring it back, or correct its path")
