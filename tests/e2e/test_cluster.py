"""Verbs on a Dask cluster of two workers on this machine: the same bytes as without one, whatever ends meanwhile."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asrkit.cli.main import main
from asrkit.cluster import check_executor, on_executor
from asrkit.errors import AsrkitError, ConfigError, InUseError
from asrkit.features.config import FeatureConfig
from asrkit.io.atomic import atomic_write
from asrkit.io.lock import lock_dir
from asrkit.io.tell import quiet
from asrkit.parallel import map_in_threads, map_ordered
from tests.backends import extractor_or_skip

distributed = pytest.importorskip("distributed")
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A scheduler with two workers, as a name for --executor."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        yield local.scheduler_address.replace("tcp://", "dask://")


def run(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def run_stages(root: Path, executor: str) -> None:
    """What stages 1, 4, 5 and 6 of the mini recipe do, with the data and the network below `root`."""
    where = ("--executor", executor, "--nj", 2)
    test, exp, decoded = root / "data/test", root / "exp", root / "exp/decode_test"
    shutil.rmtree(decoded)
    config = ("--config", root / "config.yaml")
    run("extract", test, *config, *where, "--force")
    run("decode", "--model", exp, "--data", test, "--ctm", "--nbest", 3, *where)
    run("tune", "--model", exp, "--data", test, "--decode-dir", decoded, *where)
    run("decode", "--model", exp, "--data", test, *where)
    run("analyze", "--model", exp, "--data", test, *where)
    run("report", "--model", exp, "--data", test, *where)
    run("align", "--model", exp, "--data", test, "--format", "ctm", *where)
    run("transcribe", "--model", exp, "--json", *where, root / "audio")


def results(root: Path) -> dict[str, bytes]:
    """What every file holds that is no stamp; those tell when files were written."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_the_stages_of_a_recipe_write_the_same_bytes_as_on_one_machine(
    tones: Path, cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    root = tmp_path / "tones"  # the same for both, as tables and pages name it
    for executor in ("processes", cluster):
        shutil.copytree(tones, root)
        run_stages(root, executor)
        found[executor] = results(root), capsys.readouterr().out
        shutil.rmtree(root)
    alone, spread = found.values()
    assert spread[1] == alone[1]
    assert "exp/decode_test/hyp" in alone[0]
    assert {name: len(content) for name, content in spread[0].items() if content != alone[0].get(name)} == {}
    assert spread[0].keys() == alone[0].keys()


@pytest.mark.slow
def test_features_are_computed_by_whoever_needs_them(tones: Path, cluster: str, tmp_path: Path) -> None:
    extractor_or_skip(FeatureConfig(backend="native"))
    found, data = [], tmp_path / "test"
    for executor in ("processes", cluster):
        shutil.copytree(tones / "data/test", data)
        where = ("--executor", executor, "--nj", 2)
        run("extract", data, "--config", tones / "config.yaml", *where, "--no-archives")
        assert (data / "speech.scp").exists() and not (data / "feats.scp").exists()
        run("decode", "--model", tones / "exp", "--data", data, "--out", data / "decoded", "--ctm", *where)
        found.append(results(data))
        shutil.rmtree(data)
    assert found[0] == found[1]
    assert found[0]["decoded/hyp"] == (tones / "exp/decode_test/hyp").read_bytes()


def test_the_verbs_take_the_executor_from_the_environment_too(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ASRKIT_EXECUTOR", "dask://localhost:1")
    monkeypatch.setattr("asrkit.cluster._SECONDS_TO_CONNECT", 1)
    arguments = ("decode", "--model", tones / "exp", "--data", tones / "data/test", "--out", tmp_path)
    assert main([str(argument) for argument in arguments]) == 1
    fault = capsys.readouterr().err
    assert fault == (
        "asrkit decode: error: no Dask scheduler answers at tcp://localhost:1; start one there with: dask scheduler\n"
    )


@pytest.mark.parametrize("name", ["dask", "dask://host", "dask://:8786", "dask://host:x", "threads", ""])
def test_other_names_of_executors_are_errors(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected processes, dask://HOST:PORT or dask-slurm, found"):
        check_executor(name)


def squared(number: int) -> int:
    return number * number


def slowly_squared(number: int) -> int:
    time.sleep(0.05)
    return number * number


def failing(number: int) -> int:
    if number == 7:
        raise AsrkitError("seven")
    return number


def test_results_come_in_order_and_a_functions_own_error_is_raised(cluster: str) -> None:
    with on_executor(cluster, 1):
        for size in (1, 3, 16):
            found = list(map_ordered(squared, range(20), 1, description="squares", chunk_size=size))
            assert found == [number * number for number in range(20)]
        # Without a size of chunks work stays in this process, and need not be picklable.
        assert list(map_in_threads(lambda number: number + os.getpid(), [0], 1)) == [os.getpid()]
        with pytest.raises(AsrkitError, match=r"^seven$"):
            list(map_ordered(failing, range(20), 1, description="numbers", chunk_size=2))
        assert list(map_ordered(squared, [], 1, description="nothing")) == []


def workers_of(address: str) -> list[int]:
    with distributed.Client(address.replace("dask://", "tcp://"), set_as_default=False) as client:
        return [int(pid) for pid in client.run(os.getpid).values()]


def test_the_work_of_a_killed_worker_is_done_again(cluster: str) -> None:
    with on_executor(cluster, 1):
        found = []
        for number, result in enumerate(map_ordered(slowly_squared, range(60), 1, description="squares", chunk_size=2)):
            found.append(result)
            if number == 10:
                os.kill(workers_of(cluster)[0], signal.SIGKILL)
    assert found == [number * number for number in range(60)]


@pytest.mark.slow
def test_work_without_a_worker_says_so_once_and_goes_on_when_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("asrkit.cluster._SECONDS_BETWEEN_COUNTS", 0.2)
    monkeypatch.setattr("asrkit.cluster._SECONDS_OF_PATIENCE", 1)
    logged: list[str] = []
    with distributed.LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address=":0") as local:

        def log(line: str) -> None:
            logged.append(line)
            local.scale(1)

        monkeypatch.setattr("asrkit.cluster.log", log)
        found = []
        with quiet(True), on_executor(local.scheduler_address.replace("tcp://", "dask://"), 1):
            for number, result in enumerate(map_ordered(slowly_squared, range(30), 1, description=None, chunk_size=2)):
                found.append(result)
                if number == 5:  # when more of the work has been sent
                    local.scale(0)
                    while local.scheduler_info["workers"]:
                        time.sleep(0.05)
        address = re.escape(local.scheduler_address)
    assert found == [number * number for number in range(30)]
    lines = capsys.readouterr().err.splitlines()
    assert lines == logged and len(lines) == 2
    for line in lines:
        assert re.fullmatch(
            rf"warning: the Dask scheduler at {address} has had no worker since \d\d:\d\d:\d\d; the work goes on when "
            rf"it has one; start workers with: dask worker --nthreads 1 {address}",
            line,
        )


@contextmanager
def started(*command: str, shows: str) -> Iterator[str]:
    """A program that runs in the block. Gives what stands after `shows` in its output."""
    process = subprocess.Popen(
        [str(PROGRAMS / command[0]), *command[1:]], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        yield next(found[1] for line in lines if (found := re.search(rf"{shows}\s*(\S+)", line)))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_one_line_and_a_second_run_goes_on(tones: Path, tmp_path: Path) -> None:
    scheduler = ("dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    worker = ("dask", "worker", "--nthreads", "1", "--no-dashboard")
    root = tmp_path / "tones"
    shutil.copytree(tones, root)
    extract = [sys.executable, "-m", "asrkit", "extract", str(root / "data/train"), "--force"]
    extract += ["--config", str(root / "config.yaml"), "--executor"]
    with (
        started(*scheduler, shows="Scheduler at:") as address,
        started(*worker, address, shows="Registered to:"),
    ):
        run("extract", root / "data/train", *extract[5:], address.replace("tcp://", "dask://"))
        expected = results(root)
    with started(*scheduler, shows="Scheduler at:") as address:  # without a worker, so that work waits
        process = subprocess.Popen([*extract, address.replace("tcp://", "dask://")], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert next(line for line in process.stderr if "has had no worker since" in line)
    _, fault = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.fullmatch(r"asrkit extract: error: the Dask scheduler at \S+ has gone away; start it .*\n", fault)
    run("extract", root / "data/train", "--config", root / "config.yaml", "--nj", 1)
    assert results(root) == expected


class WriteLater:
    """Writes its number to a file as soon as another file is there."""

    def __init__(self, out: Path, go: Path) -> None:
        self.out, self.go = out, go

    def __call__(self, number: int) -> None:
        while not self.go.exists():
            time.sleep(0.01)
        with atomic_write(self.out) as stream:
            stream.write(str(number))


def test_a_worker_replaces_no_file_once_the_lock_is_not_its_commands(cluster: str, tmp_path: Path) -> None:
    """As when a command was killed, and another one writes there while the first one's work still goes on."""
    out, go = tmp_path / "dir/file", tmp_path / "go"
    with on_executor(cluster, 1):
        with lock_dir(out.parent, "extract"):
            go.touch()
            assert list(map_ordered(WriteLater(out, go), [1], 1, description="file")) == [None]
            assert out.read_text() == "1"
            go.unlink()
            lock = out.parent / ".asrkit.lock"
            content = lock.read_bytes()
            calls: list[Callable[[], object]] = [
                lambda: lock.write_bytes(content.replace(b"extract", b"decode")),
                go.touch,
            ]
            works = map_ordered(WriteLater(out, go), [2], 1, description="file")
            with pytest.raises(InUseError, match="no lock of the run that sent this work"):
                list(interleaved(works, calls))
            lock.write_bytes(content)
        assert [path.name for path in out.parent.iterdir()] == ["file"]
        assert out.read_text() == "1"


def interleaved(results: Iterator[object], calls: list[Callable[[], object]]) -> Iterator[object]:
    """The results, waited for while `calls` are made from another thread, half a second apart."""

    def make_calls() -> None:
        for call in calls:
            time.sleep(0.5)
            call()

    thread = threading.Thread(target=make_calls)
    thread.start()
    try:
        yield from results
    finally:
        thread.join()


SBATCH = """#!/bin/sh
# Slurm's sbatch: keeps the script, which its caller removes, and runs it in the background.
for script; do :; done
cp "$script" "$JOBS/script"
setsid sh "$JOBS/script" >/dev/null 2>"$JOBS/log" &
echo $! >"$JOBS/pid"
echo "$script" >>"$JOBS/submitted"
echo "Submitted batch job 1"
"""
SCANCEL = """#!/bin/sh
kill -TERM "-$(cat "$JOBS/pid")"
touch "$JOBS/cancelled"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with programs that do what Slurm's do."""
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(tmp_path))
    return tmp_path


class EndsTheFirstJob:
    """Squares a number. The job that first comes to number 3 ends, as at its time limit."""

    def __init__(self, ended: Path) -> None:
        self.ended = ended

    def __call__(self, number: int) -> int:
        if number == 3 and not self.ended.exists():
            self.ended.touch()
            os.killpg(0, signal.SIGKILL)
        return number * number


@pytest.mark.slow
def test_slurm_jobs_are_started_for_a_command_replaced_when_they_end_and_ended_with_it(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrkit.cluster._SECONDS_TO_RETURN", 1)
    monkeypatch.setattr("asrkit.cluster._SECONDS_BETWEEN_COUNTS", 0.5)
    with on_executor("dask-slurm", 1):
        assert list(map_ordered(squared, range(5), 1, description="squares")) == [0, 1, 4, 9, 16]
        assert not (slurm / "cancelled").exists()
        ending = EndsTheFirstJob(slurm / "ended")
        assert list(map_ordered(ending, range(5), 1, description="squares")) == [0, 1, 4, 9, 16]
        assert len((slurm / "submitted").read_text().splitlines()) == 2
        (slurm / "cancelled").unlink(missing_ok=True)
    assert (slurm / "cancelled").exists()


def test_a_job_that_slurm_refuses_is_one_line(slurm: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n")
    with (
        pytest.raises(
            AsrkitError, match=r"^Slurm refused a job \(sbatch: error: invalid partition specified\); check "
        ),
        on_executor("dask-slurm", 2),
    ):
        pass
    assert capfd.readouterr() == ("", "")


def test_without_slurm_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(AsrkitError, match=r"^dask-slurm needs Slurm's sbatch, which is not on PATH"),
        on_executor("dask-slurm", 1),
    ):
        pass
