"""Distributes work over processes or threads: executors, an ordered parallel map, and progress on standard error."""

from __future__ import annotations

import contextlib
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.context import SpawnContext, SpawnProcess
from types import FrameType
from typing import IO, Any, Protocol, TypeVar

from asrkit.errors import AsrkitError, printable
from asrkit.io.files import Naming
from asrkit.io.lock import Inheritance
from asrkit.io.tell import is_quiet, tell

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_WORKERS = "worker processes"
_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_TO_END = 10.0  # that a worker process has to clean up


class Cluster(Protocol):
    """The machines of a cluster, to which a map sends its items (asrkit/cluster.py)."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item], chunk_size: int) -> Iterator[Result]:
        """Yield `function(item)` for each item, in order. Items are sent in chunks of `chunk_size`."""
        ...


_cluster: Cluster | None = None


@contextlib.contextmanager
def spread_over(cluster: Cluster) -> Iterator[None]:
    """In the block, the machines of a cluster do all maps, whatever number of jobs a map asks for."""
    global _cluster
    before, _cluster = _cluster, cluster
    try:
        yield
    finally:
        _cluster = before


class _WorkerProcess(SpawnProcess):
    """A process whose numerical libraries use one thread. They read environment variables when they are loaded."""

    def start(self) -> None:
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        try:
            super().start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


class _WorkerContext(SpawnContext):
    Process = _WorkerProcess


class _Workers(ProcessPoolExecutor):
    """Worker processes that stop in the middle of their work when they receive SIGTERM."""

    def __init__(self, *args: Any, **options: Any) -> None:
        with Naming(_WORKERS):
            super().__init__(*args, **options)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with Naming(_WORKERS):
            return super().submit(_work, fn, *args, **kwargs)


def _work(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    try:
        return function(*args, **kwargs)
    except SystemExit:  # from `_end_worker`; the executor would send it to the main process and continue
        os._exit(1)


def _end_worker(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM: stop the work and remove half-written files."""
    signal.signal(number, signal.SIG_IGN)  # executors send it twice
    timer = threading.Timer(_SECONDS_TO_END, os._exit, (1,))
    timer.daemon = True
    timer.start()
    sys.exit(1)


def _end_workers() -> None:
    for process in multiprocessing.active_children():
        if isinstance(process, _WorkerProcess):
            process.terminate()


class _InlineExecutor(Executor):
    """Runs each call immediately, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def make_executor(
    num_jobs: int,
    *,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
    max_tasks_per_child: int | None = None,
    isolate: bool = False,
) -> Executor:
    """An executor with `num_jobs` worker processes. With `num_jobs` 1, it runs calls in this process.

    Workers are new processes (spawn), so functions and arguments must be picklable. Their numerical libraries use one
    thread. Workers end when this process ends for any reason. They hold its locks until then.

    Args:
        num_jobs: the number of processes.
        initializer: called with `initargs` at the start of each worker.
        initargs: the arguments of `initializer`.
        max_tasks_per_child: replace a worker after this number of calls. Then even one job gets a worker.
        isolate: use a worker even for one job. The last digits of a matrix product depend on the number of threads,
            and this process may use more than one.
    """
    if num_jobs == 1 and max_tasks_per_child is None and not isolate:
        if initializer is not None:
            initializer(*initargs)
        return _InlineExecutor()
    return _Workers(
        num_jobs,
        mp_context=_WorkerContext(),
        initializer=_start_worker,
        initargs=(initializer, initargs, Inheritance()),
        max_tasks_per_child=max_tasks_per_child,
    )


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int, *, chunk_size: int | None = None
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, as soon as it and all earlier results are ready.

    With `num_threads` 1, the calling thread does the work. Closing the iterator does not wait for calls that have
    begun. With a `chunk_size`, a cluster (`spread_over`) does the items in chunks of that size, and `function` must
    be picklable. Raises the errors of `function`.
    """
    if _cluster is not None and chunk_size is not None:
        return _cluster.map(function, items, chunk_size)
    return map(function, items) if num_threads == 1 else _map_in_threads(function, items, num_threads)


def _map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], num_threads: int) -> Iterator[Result]:
    executor = ThreadPoolExecutor(num_threads)
    rest = iter(items)
    num_ahead = 4 * num_threads  # so that threads do not wait for a thread with a long item
    try:
        pending = deque(executor.submit(function, item) for item in islice(rest, num_ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(executor.submit(function, item) for item in islice(rest, 1))
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    num_jobs: int,
    *,
    description: str | None,
    chunk_size: int = 16,
    isolate: bool = False,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, and report progress under the name `description`, if it has one.

    `function` must be picklable: a function at the top of a module, or an object with `__call__`. It is sent once to
    each of the `num_jobs` processes. Items are sent in chunks of `chunk_size`, and only as many as keep the processes
    busy. One job runs in this process, unless `isolate` is True (see `make_executor`). A cluster (`spread_over`) takes
    the place of the processes.

    Raises the errors of `function`, and AsrkitError if a process dies.
    """
    total = len(items) if isinstance(items, Sized) else None
    if total is not None:
        num_jobs = max(1, min(num_jobs, -(-total // chunk_size)))
    if _cluster is not None:
        results = _cluster.map(function, items, chunk_size)
    elif num_jobs == 1 and not isolate:
        results = map(function, items)
    else:
        results = _map_chunks(function, items, num_jobs, chunk_size)
    if description is None:
        yield from results
        return
    with contextlib.closing(track(results, description, total)) as tracked:
        yield from tracked


def _map_chunks(
    function: Callable[[Item], Result], items: Iterable[Item], num_jobs: int, chunk_size: int
) -> Iterator[Result]:
    iterator = iter(items)
    chunks = iter(lambda: list(islice(iterator, chunk_size)), [])
    executor = make_executor(num_jobs, initializer=_set_function, initargs=(function,), isolate=True)
    try:
        pending = deque(executor.submit(_apply, chunk) for chunk in islice(chunks, 2 * num_jobs))
        while pending:
            results = pending.popleft().result()
            pending.extend(executor.submit(_apply, chunk) for chunk in islice(chunks, 1))
            yield from results
    except KeyboardInterrupt:
        _end_workers()
        raise
    except BrokenProcessPool:
        raise AsrkitError(
            "a worker process ended unexpectedly (killed, perhaps for lack of memory); try a smaller --nj"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Generator[Item, None, None]:
    """Yield `items` and show their number on standard error: as a bar on a terminal, otherwise in lines.

    `total` is the number of items, if known.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty() and not is_quiet():
        from tqdm import tqdm

        with tqdm(items, printable(description), total, file=progress_stream()) as bar:
            yield from bar
        return
    of_total = "" if total is None else f"/{total}"
    done, began = 0, time.monotonic()
    last_line = began
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last_line >= _SECONDS_BETWEEN_LINES:
            last_line = time.monotonic()
            tell(f"{description}: {done}{of_total} after {last_line - began:.0f} s")
    tell(f"{description}: {done}{of_total} in {time.monotonic() - began:.1f} s")


def progress_stream() -> IO[str]:
    """The stream for progress bars: standard error, unfiltered, because bars move the cursor (cli/terminal.py)."""
    stream: IO[str] = getattr(sys.stderr, "unfiltered", sys.stderr)
    return stream


_function: Callable[[Any], Any] | None = None


def _set_function(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _apply(chunk: list[Any]) -> list[Any]:
    if _function is None:
        raise RuntimeError("a worker process got work before its function")
    return [_function(item) for item in chunk]


def _start_worker(initializer: Callable[..., None] | None, initargs: tuple[Any, ...], _locks: object) -> None:
    # On Ctrl-C the main process ends the workers. If it is killed, the thread below ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_worker)
    try:
        threading.Thread(target=_exit_with_parent, daemon=True).start()
        if initializer is not None:
            initializer(*initargs)
    except SystemExit:  # from `_end_worker`, because another worker died; the executor would print a traceback
        os._exit(1)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
