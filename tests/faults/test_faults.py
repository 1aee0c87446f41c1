"""A share of the fault tests: each kind of fault on a few cases. `python -m tests.faults.KIND` runs them in full."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pairs"])
def test_a_share_of_each_kind_goes_right(kind):
    done = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{kind}", "--count", "18"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{kind}: 18 tried, 18 right, 0 wrong\n", done.stdout + done.stderr
