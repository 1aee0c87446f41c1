"""Benchmarks run in an environment that need not have what they compare with."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_last_line_is_json_and_a_peer_that_is_missing_is_named():
    hide = "import runpy, sys; sys.modules['torchaudio'] = None; sys.argv[1:] = ['--utts', '2', '--rounds', '1']\n"
    result = subprocess.run(
        [sys.executable, "-c", hide + "runpy.run_module('tests.bench.alignment', run_name='__main__')"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "torchaudio: left out, it cannot be imported: " in result.stdout
    assert "microseconds an utterance" in result.stdout
    assert json.loads(result.stdout.splitlines()[-1]) == {"ratios": {}}


def test_training_is_compared_with_what_there_is(tmp_path: Path):
    (tmp_path / "speechbrain.py").write_text("raise ImportError('not here')\n")
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.training", "--quick"], env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "speechbrain: left out, it cannot be imported: not here" in result.stdout
    ratios = json.loads(result.stdout.splitlines()[-1])["ratios"]
    assert list(ratios) == ["packed", "bare_lstm_overhead", "two_cores"]
    assert all(ratio > 0 for ratio in ratios.values())
