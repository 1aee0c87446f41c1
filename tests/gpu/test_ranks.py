"""Processes of torchrun that train together on the device (nccl; on the CPU gloo) get the weights of one process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asrkit.training.loop import train_epoch
from tests.gpu.test_resume import make_data, new_state, weights_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("size", [1, 2])
def test_processes_get_the_weights_of_one_on_the_cpu(size: int, device: torch.device, tmp_path: Path) -> None:
    if device.type == "cuda" and size > (count := torch.cuda.device_count()):
        pytest.skip(f"{count} GPU; nccl has one process on each")
    file = tmp_path / "weights.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    command += ["-m", "tests.gpu.rank", device.type, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

    alone = new_state(tmp_path / "alone", torch.device("cpu"), is_drawn=False)
    before = weights_of(alone)
    train_epoch(alone, make_data())
    way, error = weights_of(alone) - before, torch.load(file, weights_only=True) - weights_of(alone)
    # AdamW makes small differences larger, and on a GPU CTC's gradients are sums in an order that changes.
    assert error.norm() < (1e-3 if device.type == "cpu" else 0.02) * way.norm()
