"""Processes of torchrun that train together on the device (nccl), or on the CPU (gloo), end with the same weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def trained(size: int, device: torch.device, directory: Path) -> torch.Tensor:
    """The weights before and after an epoch by `size` processes, (2, n)."""
    file = directory / f"{device.type}.{size}.pt"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    command += ["-m", "tests.gpu.rank", device.type, str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    weights: torch.Tensor = torch.load(file, weights_only=True)
    return weights


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The weights before and after an epoch by one process on the CPU."""
    return trained(1, torch.device("cpu"), tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("size", [1, 2])
def test_processes_end_with_the_weights_of_one_on_the_cpu(
    size: int, device: torch.device, by_one: torch.Tensor, tmp_path: Path
) -> None:
    if device.type == "cuda" and size > (count := torch.cuda.device_count()):
        pytest.skip(f"{count} GPU; nccl has one process on each")
    before, after = trained(size, device, tmp_path)
    assert torch.equal(before, by_one[0])
    way = by_one[1] - by_one[0]
    # CTC's gradients on a GPU are sums in an order that changes, and AdamW makes small differences larger.
    assert (after - by_one[1]).norm() < (1e-4 if device.type == "cpu" else 0.02) * way.norm()
