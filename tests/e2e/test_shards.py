"""A sharded data directory from `asrkit split` to a trained network; a killed training goes on."""

import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.e2e.conftest import run_asrkit, train_args

pytestmark = pytest.mark.slow


def weights_of(exp):
    return torch.load(exp / "checkpoint.pt", weights_only=True)["model"]


def train_on(data, tones, exp):
    """The command that trains on `data`."""
    return [data if each == tones / "data/train" else each for each in train_args(tones, exp)]


def test_shards_are_trained_on_and_a_killed_training_goes_on(tones, tmp_path):
    data = tmp_path / "data/train"
    shutil.copytree(tones / "data/train", data, ignore=shutil.ignore_patterns("feats*", "cmvn*", "utt2num*", ".*"))
    assert run_asrkit("split", data, "--shards", 3).stderr == f"{data}/split3: 3 shards written\n"
    assert run_asrkit("split", data, "--shards", 3).stderr == f"{data}/split3: 3 shards are up to date\n"
    run_asrkit("extract", data / "split3", "--config", tones / "config.yaml", "--nj", 1)
    assert [(data / f"split3/{number}/feats.scp").is_file() for number in (1, 2, 3)] == [True] * 3
    options = "--set", "training.shuffle_window=16", "--set", "training.num_epochs=2"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    told = run_asrkit(*train_on(data, tones, whole), *options).stderr
    assert "48 training utterances" in told and (whole / "final.onnx").is_file()
    assert "training is up to date" in run_asrkit(*train_on(data, tones, whole), *options).stderr

    command = [sys.executable, "-m", "asrkit", *map(str, (*train_on(data, tones, killed), *options))]
    job = subprocess.Popen(
        [*command, "--set", "training.checkpoint_minutes=1e-9"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (killed / "checkpoint.pt").is_file():
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    run_asrkit(*train_on(data, tones, killed), *options, "--resume")
    one, other = weights_of(whole), weights_of(killed)
    assert all(one[name].equal(other[name]) for name in one)


def test_several_directories_are_trained_on_by_weight(tones, tmp_path):
    """Half of one directory, 24 of 48 utterances, and the 21 of the other twice."""
    data = tmp_path / "data"
    for name in ("train", "test"):  # copies: an index is written there
        shutil.copytree(tones / "data" / name, data / name, ignore=shutil.ignore_patterns(".index*"))
    command = [each for each in train_args(tones, tmp_path / "exp") if each not in ("--train", tones / "data/train")]
    options = "--train", f"{data / 'train'}=0.5", "--train", f"{data / 'test'}=2", "--set", "training.num_epochs=2"
    assert "66 training utterances" in run_asrkit(*command, *options).stderr
    assert "training is up to date" in run_asrkit(*command, *options).stderr
    assert "45 training utterances" in run_asrkit(*command, *options[:3], data / "test", *options[4:], "--force").stderr
