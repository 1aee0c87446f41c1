"""Several processes train as one does: the same weights, whatever their number, in float64 to rounding."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed import TCPStore

from asrkit.io.processes import HOST
from asrkit.training.loop import own_rows
from asrkit.training.ranks import Ranks
from tests.unit.training.rank_process import KILLED, RUNS, SIZES, run

ROOT = Path(__file__).parents[3]


def run_ranks(directory, num_ranks, *jobs):
    """Runs jobs, all if none is named. Returns: their directory, and each rank's process, exit status and errors."""
    store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    command = [sys.executable, "-m", "tests.unit.training.rank_process"]
    ranks = [
        subprocess.Popen([*command, str(number), str(store.port), directory, *jobs], cwd=ROOT, stderr=subprocess.PIPE)
        for number in range(num_ranks)
    ]
    try:
        errors = [rank.communicate(timeout=900)[1].decode() for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return directory, [(rank.pid, rank.returncode, error) for rank, error in zip(ranks, errors, strict=True)]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    return run_ranks(tmp_path_factory.mktemp("ranks"), max(SIZES))


@pytest.fixture(scope="module")
def found(ended):
    """By name and number of ranks, what each rank of the job found."""
    directory, ends = ended
    names = [*(name for name, _, _ in RUNS), "resumed"]
    assert (directory / "killed.3").is_dir(), ends
    return {
        (name, size): [torch.load(directory / f"{name}.{size}.of.{rank}.pt") for rank in range(size)]
        for name in names
        for size in SIZES
    }


def test_two_ranks_find_what_one_process_does(tmp_path):
    """And what is drawn is that of one rank."""
    _, ends = run_ranks(tmp_path, 2, "lstm.2", "drawn.1", "drawn.2")
    assert [status for _, status, _ in ends] == [0, 0], ends
    name, config, settings = RUNS[0]
    expected = run(config, tmp_path / "alone", **settings)
    for job, same in ((name, expected), ("drawn", torch.load(tmp_path / "drawn.1.of.0.pt"))):
        for rank in range(2):
            for value, other in zip(torch.load(tmp_path / f"{job}.2.of.{rank}.pt"), same, strict=True):
                torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config", "settings"), RUNS[:-1], ids=[name for name, _, _ in RUNS[:-1]])
def test_ranks_find_what_one_process_does(found, tmp_path, name, config, settings):
    weights, history = run(config, tmp_path, **settings)
    for size in SIZES:
        for weights_found, history_found in found[name, size]:
            torch.testing.assert_close(weights_found, weights, rtol=0, atol=1e-9)
            torch.testing.assert_close(history_found, history, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_what_is_drawn_does_not_depend_on_the_number_of_ranks(found):
    (weights, history), *_ = found["drawn", 1]
    for size in SIZES:
        for weights_found, history_found in found["drawn", size]:
            torch.testing.assert_close(weights_found, weights, rtol=0, atol=1e-9)
            torch.testing.assert_close(history_found, history, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_a_run_goes_on_with_any_number_of_ranks(found):
    (weights, _), *_ = found["drawn", 2]
    for size in SIZES:
        for weights_found, _ in found["resumed", size]:
            torch.testing.assert_close(weights_found, weights, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_killed_rank_ends_the_others_and_is_named_once(ended):
    (_, *first), (killed, *second), (_, *third) = ended[1]
    line = (
        f"error: rank {KILLED} (process {killed} on {HOST}) ended without a word (killed, perhaps for lack of memory)"
    )
    told = [told for told in first[1].splitlines() if told.startswith("error")]
    assert (first[0], told) == (1, [f"{line}; give --resume to go on, with as many processes as you like"])
    assert second == [-signal.SIGKILL, ""]
    assert third == [1, ""]


def test_ranks_take_turns_with_what_is_left_over():
    num_frames = [90, 10, 50, 70, 30]

    def shares(number):
        for rank in range(3):
            ranks = Ranks()
            ranks.rank, ranks.size = rank, 3
            yield own_rows(num_frames, ranks, number)

    assert [[num_frames[row] for row in rows] for rows in shares(1)] == [[10, 70], [50], [90, 30]]
    assert [[num_frames[row] for row in rows] for rows in shares(2)] == [[50], [90, 30], [10, 70]]
