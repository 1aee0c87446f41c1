import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from asrkit.errors import AsrkitError, DataError
from asrkit.parallel import make_executor, map_in_threads, map_ordered, track


def square(number: int) -> int:
    return number * number


def slow_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number


def fail_at_five(number: int) -> int:
    if number == 5:
        raise DataError("five")
    return number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def threads_and_pid(_: int) -> tuple[str | None, int]:
    return os.environ.get("OPENBLAS_NUM_THREADS"), os.getpid()


class Adder:
    """An object with state, as workers get them."""

    def __init__(self, summand: int) -> None:
        self.summand = summand

    def __call__(self, number: int) -> int:
        return number + self.summand


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_results_come_in_order(num_jobs: int) -> None:
    assert list(map_ordered(square, range(50), num_jobs, description="x", chunk_size=3)) == [n * n for n in range(50)]
    assert list(map_ordered(slow_first, range(9), num_jobs, description="x", chunk_size=1)) == list(range(9))
    assert list(map_ordered(Adder(3), [1, 2], num_jobs, description="x", chunk_size=1)) == [4, 5]
    assert list(map_ordered(square, [], num_jobs, description="x")) == []


@pytest.mark.parametrize("num_jobs", [1, 2])
def test_exceptions_arrive(num_jobs: int) -> None:
    results = map_ordered(fail_at_five, range(50), num_jobs, description="x", chunk_size=1)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="five"):
        next(results)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_give_results_in_order(num_threads: int) -> None:
    assert list(map_in_threads(slow_first, range(40), num_threads)) == list(range(40))
    results = map_in_threads(fail_at_five, range(50), num_threads)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="five"):
        next(results)


def test_threads_work_a_few_items_ahead() -> None:
    taken = []
    results = map_in_threads(square, (taken.append(number) or number for number in range(100)), 2)
    assert next(results) == 0
    assert taken == list(range(8))
    assert next(results) == 1
    assert taken == list(range(9))


def test_items_are_taken_as_they_are_needed() -> None:
    items = iter(range(10000))
    results = map_ordered(square, items, 2, description="x", chunk_size=4)
    assert next(results) == 0
    assert next(items) <= 50
    results.close()


def test_a_worker_that_dies() -> None:
    with pytest.raises(AsrkitError, match="smaller --nj"):
        list(map_ordered(die, range(4), 2, description="x", chunk_size=1))


def end_as_others_do() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def test_a_worker_that_is_told_to_end_as_it_begins_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with make_executor(1, initializer=end_as_others_do, isolate=True) as executor, pytest.raises(BrokenProcessPool):
        executor.submit(square, 1).result()
    assert capfd.readouterr() == ("", "")


def test_workers_use_one_thread_and_leave_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    results = list(map_ordered(threads_and_pid, range(8), 2, description="x", chunk_size=1))
    assert {threads for threads, _ in results} == {"1"}
    assert os.getpid() not in {pid for _, pid in results}
    assert os.environ["OPENBLAS_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_one_job_may_have_a_process_of_its_own() -> None:
    [(threads, pid)] = map_ordered(threads_and_pid, [0], 1, description="x", isolate=True)
    assert threads == "1"
    assert pid != os.getpid()


def test_executor_of_one_job_is_this_process() -> None:
    with make_executor(1) as executor:
        assert executor.submit(os.getpid).result() == os.getpid()
        assert isinstance(executor.submit(fail_at_five, 5).exception(), DataError)


def test_a_process_for_each_call() -> None:
    with make_executor(1, max_tasks_per_child=1) as executor:
        pids = [executor.submit(os.getpid).result() for _ in range(2)]
    assert len({*pids, os.getpid()}) == 3


def test_progress_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("letters: 3/3 in ")
    assert captured.err.count("\n") == 1


def test_progress_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert list(map_ordered(square, [1, 2, 3], 1, description="squares")) == [1, 4, 9]
    assert "squares: 100%|" in capsys.readouterr().err


PARENT = """
import os, sys, time
sys.path.insert(0, {directory!r})
from asrkit.parallel import make_executor
if __name__ == "__main__":
    executor = make_executor(2)
    print(executor.submit(os.getpid).result(), flush=True)
    time.sleep(60)
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(directory=os.getcwd()))
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)  # raises when there is no such process
    parent.kill()
    parent.wait()
    try:
        # The worker holds the other end of this pipe: reading to the end waits until it is gone.
        assert parent.communicate(timeout=50) == ("", None)
    except subprocess.TimeoutExpired:
        os.kill(worker, signal.SIGKILL)
        raise
