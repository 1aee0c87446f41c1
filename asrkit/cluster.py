"""Runs work on the machines of a Dask cluster instead of processes of this machine (option `--executor`).

asrkit sends ranges of utterances, recordings or archives to the cluster, in order. If a worker is lost, Dask repeats
its ranges. All machines of the cluster must see the same files under the same paths, as with Kaldi. The machine that
runs the command holds the locks of the directories (io/lock.py). A worker may still work for a command that has ended.
It checks the locks before it replaces a file, and then leaves the file unchanged.

Source: Rocklin, Dask: parallel computation with blocked algorithms and task scheduling (SciPy 2015).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import pickle
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from asrkit import __version__
from asrkit.errors import AsrkitError, ConfigError
from asrkit.extras import CLUSTER, expect_packages
from asrkit.io.lock import LockTokens
from asrkit.io.tell import log
from asrkit.parallel import spread_over

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

PROCESSES, SLURM, _SCHEME = "processes", "dask-slurm", "dask://"
_WITH_SCHEDULER = ("running",)  # the status of a Dask client that has a scheduler
_SECONDS_TO_CONNECT = 15
_SECONDS_BETWEEN_COUNTS = 5.0  # between two counts of the workers, because their number may change
_SECONDS_OF_PATIENCE = 10.0  # without a worker, before this is reported
_SECONDS_TO_RETURN = 60  # after which Dask gives up a lost worker's job; a worker that starts again may need Dask's 15
_CHUNKS_A_WORKER = 2  # number of chunks per worker that are sent ahead, so that no worker waits


def check_executor(text: str) -> str:
    """Return `text` if it names an executor: processes, dask://HOST:PORT or dask-slurm. Raises ConfigError if not."""
    host, _, port = text.removeprefix(_SCHEME).rpartition(":")
    if text in (PROCESSES, SLURM) or (text.startswith(_SCHEME) and host and port.isdecimal()):
        return text
    raise ConfigError(f"expected {PROCESSES}, {_SCHEME}HOST:PORT or {SLURM}, found {text!r}")


@contextlib.contextmanager
def on_executor(name: str, num_jobs: int) -> Iterator[None]:
    """In the block, the maps of asrkit.parallel run on the executor with this name.

    Args:
        name: the executor; see `check_executor`.
        num_jobs: the number of Slurm jobs. Each has one worker.

    Raises:
        MissingPackageError: the extra `cluster` is not installed.
        AsrkitError: the scheduler cannot be reached.
    """
    if name == PROCESSES:
        yield
        return
    expect_packages(CLUSTER)
    import dask

    importlib.import_module("distributed")  # it sets the level of each of its loggers
    # The client logs long texts about connections. Here, one line reports the fault instead.
    for logger in [name for name in logging.root.manager.loggerDict if name.startswith(("distributed", "tornado"))]:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    with (
        dask.config.set(
            {
                "distributed.comm.timeouts.connect": _SECONDS_TO_CONNECT,
                "distributed.deploy.lost-worker-timeout": _SECONDS_TO_RETURN,
            }
        ),
        contextlib.ExitStack() as stack,
    ):
        scheduler = _start_slurm(stack, num_jobs) if name == SLURM else _running(f"tcp://{name.removeprefix(_SCHEME)}")
        client = stack.enter_context(_connected(scheduler.address))
        with spread_over(_Cluster(client, scheduler)):
            yield


@dataclass(frozen=True)
class _Scheduler:
    """A Dask scheduler, and how it gets workers."""

    address: str
    remedy: str  # what the user can do if it has no worker
    replace_lost: Callable[[], object]  # have new workers started for those that are lost


def _running(address: str) -> _Scheduler:
    """A scheduler to which the user adds workers."""
    return _Scheduler(address, f"start workers with: dask worker --nthreads 1 {address}", lambda: None)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError):
        raise AsrkitError(f"no Dask scheduler answers at {address}; start one there with: dask scheduler") from None
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):  # the scheduler may have gone
            client.close(timeout=1)


def _start_slurm(stack: contextlib.ExitStack, num_jobs: int) -> _Scheduler:
    """Start a scheduler on this machine, and workers as Slurm jobs that end with the block.

    Raises AsrkitError if Slurm refuses a job.
    """
    import dask
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise AsrkitError(f"{SLURM} needs Slurm's sbatch, which is not on PATH; start this on a machine that has it")
    given = dask.config.get("jobqueue.slurm", {}) or {}
    defaults: dict[str, Any] = {"cores": 1, "processes": 1, "memory": "4GB"}
    settings: dict[str, Any] = {name: value for name, value in defaults.items() if not given.get(name)}
    try:
        cluster = stack.enter_context(SLURMCluster(**settings, scheduler_options={"dashboard_address": ":0"}))
        stack.callback(_mark_as_ended, cluster)
        for _ in range(num_jobs):
            cluster.worker_spec.update(cluster.new_worker_spec())
        cluster.sync(cluster._correct_state)  # as `scale` does, but that waits for no answer and raises nothing
    except (OSError, RuntimeError, ValueError) as error:
        raise AsrkitError(
            f"Slurm refused a job ({str(error).strip().splitlines()[-1]}); check that sbatch works here, and the "
            "section jobqueue.slurm of ~/.config/dask/jobqueue.yaml"
        ) from None
    remedy = "see what squeue says of the jobs, and what they have written to slurm-*.out"
    # Dask does not submit a lost job again by itself: one that was killed, or whose time limit was reached.
    return _Scheduler(cluster.scheduler_address, remedy, functools.partial(cluster.scale, jobs=num_jobs))


def _mark_as_ended(cluster: Any) -> None:
    """Give all jobs a status with which Dask can close the cluster. Otherwise it fails where Slurm refused one."""
    from distributed.core import Status

    for job in cluster.workers.values():
        job.status = Status.failed


class _Cluster:
    """A Dask cluster that runs the maps of asrkit.parallel."""

    def __init__(self, client: Client, scheduler: _Scheduler) -> None:
        self._client, self._scheduler, self._address = client, scheduler, scheduler.address
        self._num_workers, self._counted = 0, -_SECONDS_BETWEEN_COUNTS
        self._none_since: float | None = None  # the time of the first of the last counts that found no worker
        self._is_told = False  # whether this lack was reported

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], chunk_size: int) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order.

        The function, its items and results are pickled. Items are sent to a worker in chunks of `chunk_size`, and only
        as many as keep the workers busy.

        Raises the errors of `function`, and AsrkitError if the scheduler goes away or several workers die at a chunk.
        """
        iterator = iter(items)
        chunks = iter(lambda: list(islice(iterator, chunk_size)), [])
        locks = LockTokens.held()
        # A separate task sends the function to each worker once, including workers that come later.
        with self._faults_in_words():
            shared = self._client.submit(bytes, pickle.dumps(function), pure=False)
        pending: deque[Any] = deque()
        try:
            while True:
                with self._faults_in_words():
                    room = max(1, _CHUNKS_A_WORKER * self._count_workers()) - len(pending)
                    for chunk in islice(chunks, max(0, room)):
                        pending.append(self._client.submit(_work, shared, chunk, locks, __version__, pure=False))
                    if not pending:
                        return
                    results = self._wait_for(pending.popleft())
                yield from results
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel([shared, *pending])

    def _count_workers(self) -> int:
        """The number of threads of all workers, which may be a few seconds old. Their lack is reported once."""
        if time.monotonic() - self._counted >= _SECONDS_BETWEEN_COUNTS:
            self._num_workers, self._counted = sum(self._client.nthreads().values()), time.monotonic()
            self._scheduler.replace_lost()
            if self._num_workers:
                self._none_since, self._is_told = None, False
            elif self._none_since is None:
                self._none_since = time.time()
            elif not self._is_told and time.time() - self._none_since >= _SECONDS_OF_PATIENCE:
                self._is_told = True
                since = time.strftime("%H:%M:%S", time.localtime(self._none_since))
                line = (
                    f"warning: the Dask scheduler at {self._address} has had no worker since {since}; the work goes on "
                    f"when it has one; {self._scheduler.remedy}"
                )
                print(line, file=sys.stderr, flush=True)
                log(line)
        return self._num_workers

    def _wait_for(self, future: Any) -> list[Any]:
        """The results of a chunk."""
        while True:
            try:
                results: list[Any] = future.result(timeout=_SECONDS_BETWEEN_COUNTS)
                return results
            except TimeoutError:
                if future.done():  # just now; or the function itself raised it, and raises it again
                    results = future.result()
                    return results
                self._count_workers()

    @contextlib.contextmanager
    def _faults_in_words(self) -> Iterator[None]:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            yield
        except AsrkitError:
            raise
        except KilledWorker:
            raise AsrkitError(
                f"worker after worker of the Dask cluster at {self._address} ended while it did the same work (killed, "
                "perhaps for lack of memory); give the workers more memory, then run this again: it goes on"
            ) from None
        except (CommClosedError, CancelledError, TimeoutError, OSError, RuntimeError, ImportError) as error:
            if isinstance(error, ImportError) or "deserialization" in str(error):
                raise AsrkitError(
                    f"the Dask scheduler at {self._address}, or a worker, cannot load this asrkit; start them in an "
                    "environment like the one here"
                ) from None
            if self._client.status in _WITH_SCHEDULER and not isinstance(error, (CommClosedError, CancelledError)):
                raise
            raise AsrkitError(
                f"the Dask scheduler at {self._address} has gone away; start it and its workers again, then run this "
                "again: it goes on"
            ) from None


class _Loaded(threading.local):
    """The function that a thread of a worker has loaded, and its pickled form."""

    pickled: bytes = b""
    function: Callable[[Any], Any] | None = None


_loaded = _Loaded()


def _work(pickled: bytes, chunk: list[Any], locks: LockTokens, version: str) -> list[Any]:
    """Do a chunk on a worker, for a command that holds `locks` and has this `version` of asrkit."""
    if version != __version__:
        raise AsrkitError(f"a worker has asrkit {__version__}, and this is {version}; install the same one there")
    if _loaded.function is None or _loaded.pickled != pickled:
        _loaded.pickled, _loaded.function = pickled, pickle.loads(pickled)
    function = _loaded.function
    with locks.respected():
        return [function(item) for item in chunk]
