"""Work on the machines of a Dask cluster in place of this machine's processes: what `--executor` chooses.

Asrkit sends a cluster ranges of utterances, recordings or archives, in order. Dask does the ranges of a lost worker
again. The machines of a cluster see the same files under the same paths, as Kaldi's do. The machine that runs the
command holds the locks of the directories (io/lock.py). Work that a worker still does for a command that has ended
finds this out before it replaces a file, and leaves it.

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
_WITH_SCHEDULER = ("running",)  # what Dask's client calls its status
_SECONDS_TO_CONNECT = 15
_SECONDS_BETWEEN_COUNTS = 5.0  # of the workers, whose number may change
_SECONDS_OF_PATIENCE = 10.0  # without a worker, before it is told
_CHUNKS_A_WORKER = 2  # sent ahead, so that a worker need not wait for its next


def check_executor(text: str) -> str:
    """The name of an executor: processes, dask://HOST:PORT or dask-slurm. Raises ConfigError for another one."""
    host, _, port = text.removeprefix(_SCHEME).rpartition(":")
    if text in (PROCESSES, SLURM) or (text.startswith(_SCHEME) and host and port.isdecimal()):
        return text
    raise ConfigError(f"expected {PROCESSES}, {_SCHEME}HOST:PORT or {SLURM}, found {text!r}")


@contextlib.contextmanager
def on_executor(name: str, num_jobs: int) -> Iterator[None]:
    """A block whose maps (asrkit.parallel) are done where the executor `name` says.

    Args:
        num_jobs: the number of Slurm jobs, of one worker each.

    Raises:
        MissingPackageError: the extra `cluster` is not installed.
        AsrkitError: the scheduler cannot be reached.
    """
    if name == PROCESSES:
        yield
        return
    expect_packages(CLUSTER)
    import dask

    importlib.import_module("distributed")  # which gives its loggers a level each
    # The client writes long texts about connections; what they mean is said here in one line.
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
        with contextlib.suppress(Exception):  # a scheduler that has gone cannot be told good-bye
            client.close(timeout=1)


def _start_slurm(stack: contextlib.ExitStack, num_jobs: int) -> str:
    """Start a scheduler here, and its workers as Slurm jobs that end with the block. Returns its address."""
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
    """A Dask cluster, for the maps of asrkit.parallel."""

    def __init__(self, client: Client, address: str) -> None:
        self._client, self._address = client, address
        self._num_workers, self._counted = 0, -_SECONDS_BETWEEN_COUNTS

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], chunk_size: int) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order. An exception of `function` is raised here.

        The function, its items and results are pickled. Items go to a worker in chunks of `chunk_size`. Only as many
        are taken as keep the workers busy.

        Raises AsrkitError when the scheduler goes away, or a chunk costs worker after worker its life.
        """
        iterator = iter(items)
        chunks = iter(lambda: list(islice(iterator, chunk_size)), [])
        locks = LockTokens.held()
        # A task of its own, so that Dask sends the function to a worker once, and again to one that comes later.
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
        """The number of threads of all workers, as it was a moment ago."""
        if time.monotonic() - self._counted >= _SECONDS_BETWEEN_COUNTS:
            self._num_workers, self._counted = sum(self._client.nthreads().values()), time.monotonic()
        return self._num_workers

    def _wait_for(self, future: Any) -> list[Any]:
        """The results of a chunk. That there is no worker to do it is told once."""
        while True:
            try:
                results: list[Any] = future.result(timeout=_SECONDS_OF_PATIENCE)
                return results
            except TimeoutError:
                if future.done():  # an exception of the function's own
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
    """The function that a worker's thread has loaded, and what it was loaded from."""

    pickled: bytes = b""
    function: Callable[[Any], Any] | None = None


_loaded = _Loaded()


def _work(pickled: bytes, chunk: list[Any], locks: LockTokens, version: str) -> list[Any]:
    """Do a chunk on a worker, for a command that holds `locks` and is of this `version` of asrkit."""
    if version != __version__:
        raise AsrkitError(f"a worker has asrkit {__version__}, and this is {version}; install the same one there")
    if _loaded.function is None or _loaded.pickled != pickled:
        _loaded.pickled, _loaded.function = pickled, pickle.loads(pickled)
    function = _loaded.function
    with locks.respected():
        return [function(item) for item in chunk]
