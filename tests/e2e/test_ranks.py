"""`asrkit train` by processes that torchrun starts: one of them is killed, all are interrupted, others go on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from asrkit.io.processes import HOST
from tests.e2e.conftest import run_asrkit, train_args
from tests.e2e.test_shards import train_on
from tests.recipe_tree import copy_recipes, run_recipe, write_program

pytestmark = pytest.mark.slow
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ROOT = Path(__file__).parents[2]


def start(tones, exp, size, *options):
    return start_with(train_args(tones, exp), size, *options)


def start_with(arguments, size, *options):
    command = [*TORCHRUN, str(size), "-m", "asrkit", *map(str, arguments), *options]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ranks_of(job):
    """{rank: process} of a job's processes that run."""
    found = {}
    for number in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split():
        variables = Path(f"/proc/{number}/environ").read_text().split("\0")
        found |= {int(each[5:]): int(number) for each in variables if each.startswith("RANK=")}
    return found


def wait_for(path, job):
    until = time.monotonic() + 200
    while not path.is_file():
        assert time.monotonic() < until and job.poll() is None, job.communicate()
        time.sleep(0.05)


def told(errors):
    return [line for line in errors.splitlines() if line.startswith("asrkit train: ")]


def test_a_killed_rank_is_named_and_others_go_on(tones, tmp_path):
    exp, endless = tmp_path / "exp", ["--set", "training.num_epochs=500"]
    job = start(tones, exp, 3, *endless)
    wait_for(exp / "checkpoint.pt", job)
    ranks = ranks_of(job)
    assert sorted(ranks) == [0, 1, 2]
    os.kill(ranks[1], signal.SIGKILL)
    errors = job.communicate(timeout=100)[1]
    line = (
        f"asrkit train: error: rank 1 (process {ranks[1]} on {HOST}) ended without a word (killed, perhaps for lack of"
    )
    assert told(errors) == [f"{line} memory); give --resume to go on, with as many processes as you like"]
    # torchrun's own report, in which statuses of those it ended itself have a minus
    assert errors.count("exitcode  : 1 ") + errors.count("exitcode  : -9 ") == 3, errors
    assert not (exp / ".asrkit.lock").exists()

    job = start(tones, exp, 2, *endless, "--resume")
    first = job.stderr.readline()
    assert first.startswith("resuming after epoch "), first
    assert "processes 2, was 3: weights may differ" in job.stderr.readline()
    time.sleep(1)
    job.send_signal(signal.SIGINT)
    errors = job.communicate(timeout=100)[1]
    assert told(errors) == ["asrkit train: interrupted"]
    assert not (exp / ".asrkit.lock").exists()


def test_two_processes_train_on_shards_as_one_does(tones, tmp_path):
    """Each reads the windows of the shards by itself. Nothing is drawn that depends on whether torchrun is used."""
    data = tmp_path / "data/train"
    shutil.copytree(tones / "data/train", data, ignore=shutil.ignore_patterns("feats*", "cmvn*", "utt2num*", ".*"))
    run_asrkit("split", data, "--shards", 3)
    run_asrkit("extract", data / "split3", "--config", tones / "config.yaml", "--nj", 1)
    settings = "shuffle_window=16", "num_epochs=2", "input_noise=0", "random_offset=false"
    options = ["--set", "model.dropout=0", *(word for each in settings for word in ("--set", f"training.{each}"))]
    job = start_with(train_on(data, tones, tmp_path / "two"), 2, *options)
    errors = job.communicate(timeout=200)[1]
    assert job.returncode == 0, errors
    run_asrkit(*train_on(data, tones, tmp_path / "one"), *options)
    one, two = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-5)


def test_a_fault_is_told_once(tones, tmp_path):
    job = start(tones, tmp_path / "exp", 2, "--tokens", str(tmp_path / "none"))
    assert told(job.communicate(timeout=100)[1]) == [
        f"asrkit train: error: {tmp_path}/none: not found; made by stage 0 (asrkit prepare)"
    ]


def test_a_recipe_trains_with_two_processes_where_its_cmd_says_so(tones, tmp_path):
    copy_recipes(tmp_path)
    write_program(tmp_path / ".venv/bin/torchrun", f'#!/bin/sh\nexec {" ".join(TORCHRUN[:3])} "$@"\n')
    (tmp_path / "recipes/mini/cmd.sh").write_text('train_cmd="torchrun --standalone --nproc-per-node 2"\n')
    options = [
        "--stage",
        "3",
        "--stop-stage",
        "3",
        "--data-root",
        str(tones / "data"),
        "--config",
        str(tones / "config.yaml"),
    ]
    run = run_recipe(tmp_path, "mini", *options, "--exp", str(tmp_path / "exp"))
    assert run.returncode == 0, run.stderr
    assert "dev PER" in run.stderr
    assert run.stderr.count(f"{tmp_path}/exp: dev PER") == 1
    assert (tmp_path / "exp/final.onnx").is_file()
    again = run_recipe(tmp_path, "mini", *options, "--exp", str(tmp_path / "exp"))
    assert again.stderr.count("training is up to date") == 1
