"""Runs work on the machines of a Dask cluster instead of processes of this machine (option `--executor`).

asrkit sends ranges of utterances, recordings or archives to the cluster, in order. If a worker is lost, Dask repeats
its ranges. All machines of the cluster must see the same files under the same paths, as with Kaldi. The machine that
runs the command holds the locks of the directories (io/lock.py). A worker may still work for a command that has ended.
It checks the locks before it replaces a file, and then leaves the file unchanged.

Source: Rocklin, Dask: parallel computation with blocked algorithms and task scheduling (SciPy 2015).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import pickle
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from asrkit import __version__
from asrkit.errors import AsrkitError, ConfigError
from asrkit.extras import CLUSTER, expect_packages
from asrkit.io.lock import LockTokens
from asrkit.io.tell import tell
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
    for logger in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": _SECONDS_TO_CONNECT}),
        contextlib.ExitStack() as stack,
    ):
        address = _start_slurm(stack, num_jobs) if name == SLURM else f"tcp://{name.removeprefix(_SCHEME)}"
        client = stack.enter_context(_connected(address))
        with spread_over(_Cluster(client, address)):
            yield


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


def _start_slurm(stack: contextlib.ExitStack, num_jobs: int) -> str:
    """Start a scheduler on this machine, and workers as Slurm jobs that end with the block. Returns its address."""
    import dask
    from dask_jobqueue import SLURMCluster

    if shutil.which("sbatch") is None:
        raise AsrkitError(f"{SLURM} needs Slurm's sbatch, which is not on PATH; start this on a machine that has it")
    given = dask.config.get("jobqueue.slurm", {}) or {}
    defaults: dict[str, Any] = {"cores": 1, "processes": 1, "memory": "4GB"}
    settings: dict[str, Any] = {name: value for name, value in defaults.items() if not given.get(name)}
    try:
        cluster = stack.enter_context(SLURMCluster(**settings, scheduler_options={"dashboard_address": ":0"}))
        cluster.scale(jobs=num_jobs)
    except (OSError, RuntimeError, ValueError) as error:
        raise AsrkitError(
            f"Slurm took no jobs ({str(error).splitlines()[0]}); check that sbatch works here, and the section "
            "jobqueue.slurm of ~/.config/dask/jobqueue.yaml"
        ) from None
    address: str = cluster.scheduler_address
    return address


class _Cluster:
    """A Dask cluster that runs the maps of asrkit.parallel."""

    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address = client, address
        self._num_workers, self._counted = 0, -_SECONDS_BETWEEN_COUNTS

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
        """The number of threads of all workers, which may be a few seconds old."""
        if time.monotonic() - self._counted >= _SECONDS_BETWEEN_COUNTS:
            self._num_workers, self._counted = sum(self._client.nthreads().values()), time.monotonic()
        return self._num_workers

    def _wait_for(self, future: Any) -> list[Any]:
        """The results of a chunk. If there is no worker, this is reported once."""
        while True:
            try:
                results: list[Any] = future.result(timeout=_SECONDS_OF_PATIENCE)
                return results
            except TimeoutError:
                if future.done():  # the function itself raised it
                    raise
                if not self._num_workers and not self._client.nthreads():
                    tell(f"waiting for a worker; the Dask scheduler at {self._address} has none yet")
                    self._num_workers = 1

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
