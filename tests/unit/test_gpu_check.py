"""tools/gpu_check.sh runs where there is PyTorch, NumPy and pytest, and nothing else that asrkit needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

# Python runs this at its start. It hides the packages that torch, NumPy and pytest do not need themselves.
HIDE = """
import re
import sys
from importlib import metadata
from importlib.machinery import PathFinder

needed, waiting = set(), ["torch", "numpy", "pytest", "setuptools"]
while waiting:
    name = re.sub("[-_.]+", "-", waiting.pop()).lower()
    if name not in needed:
        needed.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        waiting += [re.match(r"[\\w.-]+", line).group() for line in lines if "extra ==" not in line]

HIDDEN = {
    module
    for module, owners in metadata.packages_distributions().items()
    if module != "asrkit" and not {re.sub("[-_.]+", "-", owner).lower() for owner in owners} & needed
}


class Visible(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Visible
"""


def run(directory: Path, *options: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    (directory / "sitecustomize.py").write_text(HIDE)
    return subprocess.run(
        [ROOT / "tools/gpu_check.sh", *options], cwd=directory, capture_output=True, text=True, timeout=480,
        env=os.environ | {"PYTHON": python, "PYTHONPATH": str(directory)},
    )  # fmt: skip


@pytest.mark.slow
def test_it_passes_on_the_cpu_without_what_is_optional(tmp_path: Path) -> None:
    hidden = "import sitecustomize; print(*sitecustomize.HIDDEN)"
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    listed = subprocess.run(
        [sys.executable, "-c", hidden], env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert {"soundfile", "soxr", "yaml", "jiwer", "tqdm", "matplotlib", "onnx"} <= set(listed.stdout.split())
    result = run(tmp_path, "--device", "cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1] == "tools/gpu_check.sh: all checks passed on cpu"
    (passed,) = [line for line in lines if " passed" in line and " in " in line]
    assert "failed" not in passed
    skipped = [line for line in lines if line.startswith("SKIPPED")]
    assert len(skipped) == 2, skipped
    assert all(re.search("onnx is not installed|needs torchaudio", line) for line in skipped), skipped
    assert any(line.startswith("bare: ") for line in lines)


def test_an_option_that_it_does_not_have_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, "--device", "tpu")
    assert result.returncode == 2
    assert result.stderr == (
        "tools/gpu_check.sh: error: found '--device tpu'; expected nothing, --device cpu or --device cuda\n"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = run(tmp_path, python=os.path.relpath(sys.executable, tmp_path))
    assert result.returncode == 1
    assert result.stderr == (
        f"tools/gpu_check.sh: error: PyTorch {torch.__version__} finds no GPU; install a CUDA build and a driver, or "
        "give --device cpu\n"
    )
