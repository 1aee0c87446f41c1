"""A share of the fault tests: each kind of fault on a few cases. `python -m tests.faults KIND` runs them in full."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import models
from tests.faults.__main__ import KINDS
from tests.faults.limits import MAX_MEMORY


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_each_kind_goes_right(kind):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", kind, "--count", "18"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    last = re.fullmatch(rf"{kind}: (\d+) tried, \1 right, 0 wrong", done.stdout.rstrip("\n").split("\n")[-1])
    assert last is not None, done.stdout + done.stderr
    assert int(last[1]) >= 18  # the fuzzer tries each parser


@pytest.mark.slow
def test_memory_is_bounded_by_the_file():
    names = {
        "100 layers of 8192",
        "zip bomb",
        "array of 10000000000 bytes",
        "tensor of terabytes",
        "huge",
        "external data",
    }
    numbers = [number for number, case in enumerate(models.all_cases()) if case.name in names]
    assert len(numbers) > len(names)  # some are of two kinds
    with models.Reader() as reader:
        assert [reader.read(number)[1] for number in numbers] == [None] * len(numbers), f"within {MAX_MEMORY} bytes"
