"""Workers of a Dask cluster that are killed at random times: the stages leave the same bytes as on one machine.

    python -m tests.faults.workers --data DATA --model EXP --runs 20

Each run extracts, decodes, tunes and aligns a copy of the data directory DATA, on two workers of this machine, one of
which is killed (SIGKILL) once in each stage. Prints how many runs were right and wrong, and returns 1 if one was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dask
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context

from asrkit.cli.main import main as asrkit
from asrkit.io.tell import quiet

_NUM_WORKERS = 2
_SECONDS_TO_RETURN = 600  # that a killed worker has
_SETTINGS = {
    "distributed.deploy.lost-worker-timeout": _SECONDS_TO_RETURN,  # by default 15; then Dask gives it up for good
    "distributed.worker.multiprocessing-method": "forkserver",  # so that the next worker need not load everything
    "distributed.worker.profile.enabled": False,  # Dask looks 100 times a second at what runs, however slow that is
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}
_LOADED = ["distributed", "asrkit.experiment", "asrkit.inference.torch_model", "asrkit.stages.tuning"]
_OF_DATA = ("wav.scp", "text", "utt2spk", "segments")


def stages(root: Path) -> dict[str, list[str]]:
    """The commands by name, for the data directory and the experiment below `root`."""
    data, exp, decoded = str(root / "data"), str(root / "exp"), str(root / "exp/decode_data")
    return {
        "extract": ["extract", data, "--config", f"{exp}/config.yaml"],
        "decode": ["decode", "--model", exp, "--data", data, "--ctm", "--nbest", "3"],
        "tune": ["tune", "--model", exp, "--data", data, "--decode-dir", decoded],
        "align": ["align", "--model", exp, "--data", data, "--format", "ctm"],
    }


@contextlib.contextmanager
def killed_after(seconds: float, address: str, rng: random.Random) -> Iterator[list[int]]:
    """A block in which one worker is killed after so many seconds, if it takes as long. Gives the processes killed."""
    killed: list[int] = []
    ended = threading.Event()
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(_NUM_WORKERS, timeout=_SECONDS_TO_RETURN)  # else the runs could end with none
        processes = list(client.run(os.getpid).values())

    def kill() -> None:
        if not ended.wait(seconds):
            killed.append(rng.choice(processes))
            os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def results(root: Path) -> dict[str, bytes]:
    """The bytes of every file but stamps and notes, which tell when files were written."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def run(
    root: Path, args: argparse.Namespace, cluster: LocalCluster | None, times: dict[str, float]
) -> tuple[object, int]:
    """What the stages leave and print, and how many workers were killed. Without a cluster, `times` are taken."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "data").mkdir(parents=True)
    for name in _OF_DATA:
        if (args.data / name).exists():
            shutil.copy(args.data / name, root / "data")
    shutil.copytree(args.model, root / "exp", ignore=shutil.ignore_patterns("decode_*", "tune", "tensorboard"))
    printed, num_killed = io.StringIO(), 0
    for name, command in stages(root).items():
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet(True))
            stack.enter_context(contextlib.redirect_stdout(printed))
            killed: list[int] = []
            if cluster is not None:
                address = str(cluster.scheduler_address)
                killed = stack.enter_context(killed_after(args.rng.uniform(0, times[name]), address, args.rng))
                command = [*command, "--executor", address.replace("tcp://", "dask://")]
            if asrkit([*command, "--quiet"]):
                return f"{name} failed", num_killed
        times.setdefault(name, time.monotonic() - began)
        num_killed += len(killed)
    return (results(root), printed.getvalue()), num_killed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="data directory with wav.scp, text and utt2spk")
    parser.add_argument("--model", type=Path, required=True, help="experiment directory")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.rng = random.Random(args.seed)
    wrong = num_killed = 0
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        times: dict[str, float] = {}
        expected, _ = run(root, args, None, times)
        dask.config.set(_SETTINGS)
        get_mp_context().set_forkserver_preload(_LOADED)
        with LocalCluster(
            n_workers=_NUM_WORKERS, threads_per_worker=1, dashboard_address=":0", silence_logs=50
        ) as cluster:
            run(root, args, cluster, dict.fromkeys(times, 1e9))  # the first run loads the workers' modules
            for number in range(1, args.runs + 1):
                found, killed = run(root, args, cluster, times)
                num_killed += killed
                wrong += found != expected
                print(f"run {number}: {'wrong' if found != expected else 'right'}, {killed} workers killed", flush=True)
    print(f"{args.runs - wrong} of {args.runs} runs right; {num_killed} workers killed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
