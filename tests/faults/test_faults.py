"""A share of the fault tests: each kind of fault on a few cases. `python -m tests.faults KIND` runs them in full."""

import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asrkit.inference import onnx_model
from asrkit.io import lock, seal, stamp
from tests.faults import cuts, full, models, pairs, tree
from tests.faults.__main__ import KINDS
from tests.faults.limits import MAX_MEMORY

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_each_kind_goes_right(kind):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", kind, "--count", "18"],
        cwd=ROOT,
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


@pytest.mark.slow
def test_all_kinds_make_a_table_and_what_was_run_is_not_run_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(full, "RUNS", {"fuzz": (("--parser", "tokens", "--count", "40"), 2), "models": ((), 1)})
    monkeypatch.setattr(full, "_commit", lambda: "commit")
    monkeypatch.setattr(sys, "argv", ["full", "--dir", str(tmp_path)])
    first, second, models_log = (
        tmp_path / "commit" / name
        for name in (*(f"fuzz --parser tokens --count 40 --part {k} of 2" for k in (1, 2)), "models")
    )
    first.parent.mkdir()
    first.write_text("some rows\nfuzz: 20 tried, 20 right, 0 wrong\n")
    second.write_text("of a run that was ended\n")
    models_log.write_text("models: 5000 tried, 4999 right, 1 wrong\n")
    assert full.main() == 1
    rows = capsys.readouterr().out.splitlines()[-2:]
    assert rows == [
        "| fuzz | 40 | 40 | 0 | `python -m tests.faults fuzz --parser tokens --count 40` |",
        "| models | 5,000 | 4,999 | 1 | `python -m tests.faults models` |",
    ]
    assert second.read_text().endswith("fuzz: 20 tried, 20 right, 0 wrong\n")


def test_full_is_all_kinds():
    assert full.RUNS.keys() == KINDS.keys()


# Faults of the kinds that are tried for, put into the code.


@pytest.mark.slow
def test_stamps_that_look_at_existence_only_are_found(monkeypatch):
    monkeypatch.setattr(stamp.Output, "is_noted", lambda self, path, notes: path.exists())
    assert cuts.run(16, 1)["wrong"] > 0


@pytest.mark.slow
def test_locks_that_everyone_gets_are_found(monkeypatch):
    came = multiprocessing.Value("i", 0)
    write = stamp.Stamp.write

    def write_after_the_other(self, outputs):
        """The run that comes to its stamp first writes it last; the other has then replaced its archives."""
        with came.get_lock():
            came.value += 1
            is_first = came.value == 1
        until = time.monotonic() + 5
        while is_first and came.value == 1 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(is_first)
        write(self, outputs)

    with tree.new_tree() as work:
        tried = pairs.Pairs(work)
        assert tried.faults("extract", random.Random(0)) == []
        monkeypatch.setattr(lock, "_try", lambda descriptor, path, verb: True)
        monkeypatch.setattr(stamp.Stamp, "write", write_after_the_other)
        for seed in range(5):
            came.value = 0
            if tried.faults("extract", random.Random(seed)):
                return
    pytest.fail("nothing was found")


def test_damage_that_is_not_looked_for_is_found(monkeypatch):
    damaged = [case for case in models.all_cases() if case.kind == "onnx" and case.name.startswith("bit ")][:40]
    assert [models.judge(case) for case in damaged] == [None] * 40
    monkeypatch.setattr(onnx_model, "check_seal", seal_size)
    assert "it was taken for a model" in [models.judge(case) for case in damaged]


def seal_size(stream, name, remedy):
    size = stream.seek(0, os.SEEK_END) - seal._NUM_AT_END
    stream.seek(0)
    return size


RUN_WITHOUT = """
import sys
import time
from tests.faults import {kind} as kind
from asrkit.io import {module}
{module}.{name} = lambda *_: None
if __name__ == "__main__":
    sys.exit(kind.main_with_changes(kind._main, "planted"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "module", "name", "message"),
    [
        ("kills", "lock", "remove_leftovers", "these files are not as they should be"),
        ("kills", "stamp", "remove_dead_locks", "asrkit.lock"),
        ("disk_full", "files", "Naming.__exit__", "had no space, but it names"),
    ],
)
def test_what_runs_leave_or_say_that_are_stopped_is_found(tmp_path, kind, module, name, message):
    (tmp_path / "planted.py").write_text(RUN_WITHOUT.format(kind=kind, module=module, name=name))
    done = subprocess.run(
        [sys.executable, "-m", "planted", "--command", "train-lm"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert message in done.stderr


def spin():
    while True:
        pass


@pytest.mark.parametrize(
    ("act", "fault"),
    [
        (spin, "more than 1 seconds"),
        (lambda: time.sleep(100), "more than 1 seconds"),
        (lambda: bytes(2**31), "a traceback"),
        (lambda: held.append(b"\1" * 2**20), None),
        (lambda: 1 // 0, "a traceback"),
    ],
)
def test_runs_that_break_the_limits_are_found(tmp_path, monkeypatch, act, fault):
    monkeypatch.setattr(tree, "MAX_SECONDS", 1)
    monkeypatch.setattr(tree, "MAX_WAIT_S", 3)
    monkeypatch.setattr(tree, "_load", lambda: None)
    monkeypatch.setattr("asrkit.cli.main.main", lambda command: [act(), 0][1])
    assert tree.Run(["verb"], tmp_path).wait().fault == fault


def test_much_memory_is_found():
    assert tree.Done(0, "", 2**30).fault is None
    assert tree.Done(0, "", 2**30 + 1).fault == f"{2**30 + 1} bytes of memory"


def test_a_model_that_takes_for_ever_is_found(monkeypatch):
    reader = models.Reader()
    monkeypatch.setattr(models, "MAX_WAIT_S", 0)
    with reader:
        reader._start()
        assert not reader._answers()


held = []
