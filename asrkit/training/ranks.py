"""The processes of a job that PyTorch's torchrun starts. They train one network together.

Each process has a number, its rank. Only rank 0 writes files and prints. The ranks sum counts, losses and gradients;
between two sums they do not wait for each other. DistributedDataParallel is not used, for three reasons. It takes means
over ranks, whatever their shares are. It waits for a rank without utterances. And it gives weights that are in no loss
a gradient of 0, which weight decay would act on.

Every rank leaves a mark in torchrun's store when it ends. A rank that ends without a mark was killed. The others notice
that at their next sum, or when torchrun ends them, and the first of them names the killed rank.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar

from asrkit.errors import ConfigError, PeerError
from asrkit.io.json_text import json_text, parse_json
from asrkit.io.processes import HOST, is_running, machine, start_time
from asrkit.io.tell import be_quiet

if TYPE_CHECKING:
    import torch
    from torch import nn

T = TypeVar("T")

_SECONDS_TO_TELL = 3.0  # in which the mark of a rank that has ended is seen by the others
_SECONDS_BETWEEN_LOOKS = 0.05
_DONE, _FAILED, _INTERRUPTED, _LOST = "done", "failed", "interrupted", "lost"  # marks; lost: for want of another rank
_GO_ON = "give --resume to go on, with as many processes as you like"
_UNWANTED = ""  # in place of an identity: there is nothing to train
_jobs = itertools.count()


class Ranks:
    """A process that trains alone: the sum over all ranks is its own share.

    Attributes:
        rank, size: the number of this process, and the number of all processes.
        is_first: whether it writes and prints.
        is_job: whether torchrun started it.
    """

    rank, size = 0, 1
    is_first = True  # whether it writes and speaks
    is_job = False  # whether torchrun has started it

    def lead(self, identity: str) -> None:
        """For the first rank: let the other ranks begin to train the run `identity`."""

    def follow(self) -> str | None:
        """For other ranks: wait until the first rank leads.

        Returns the identity of its run; None if there is nothing to train.
        """
        return None

    def take_gpu(self, device: torch.device) -> None:
        """Use the GPU of this process as `device` from now on. Each process of a machine has one.

        Raises ConfigError if there are more processes than GPUs, or if `device` is a certain GPU.
        """

    def connect(self, device: torch.device) -> None:
        """Wait for all ranks. The following methods need this first."""

    def add_up(self, values: Sequence[float], model: nn.Module | None = None) -> Sequence[float]:
        """The sums of `values` over all ranks. Gradients of `model` are summed in place.

        A gradient that is None in all ranks stays None.
        """
        return values

    def gather(self, value: T) -> list[T] | None:
        """The values of all ranks, for the first rank; None for the others."""
        return [value]

    def spread(self, value: T | None) -> T:
        """The value of the first rank, for all ranks."""
        assert value is not None
        return value

    def spread_weights(self, model: nn.Module) -> None:
        """Give the weights of the first rank to all ranks."""


ALONE = Ranks()


class _LostError(Exception):
    """A sum or message failed because another rank has ended."""


class _Process(NamedTuple):
    """What a rank tells the others about itself."""

    rank: int
    number: int
    start: str
    host: str
    machine: str

    @classmethod
    def me(cls, rank: int) -> _Process:
        return cls(rank, os.getpid(), start_time(os.getpid()), HOST, machine())

    def is_here(self) -> bool:
        return self.machine == machine()

    def is_dead(self) -> bool:
        return self.is_here() and not is_running(self.number, self.start)

    def describe(self) -> str:
        return f"{self.rank} (process {self.number} on {self.host})"


class _Job(Ranks):
    """One of the processes that torchrun started."""

    is_job = True

    def __init__(self) -> None:
        import torch.distributed as dist

        store, self.rank, self.size = next(dist.rendezvous("env://"))
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = dist.PrefixStore(f"asrkit/{restart}/{next(_jobs)}", store)
        self.is_first = self.rank == 0
        self._gradients: Any = None  # the group that adds them up; None: that of everything else
        self._others: dict[int, _Process] = {}
        self._store.set(f"process/{self.rank}", json_text(_Process.me(self.rank)))

    # What ranks say to each other while all is well.

    def lead(self, identity: str) -> None:
        with self._noticing():
            if not self._store.check(["identity"]):
                self._store.set("identity", identity)

    def follow(self) -> str | None:
        self._wait_for(["identity"])
        return self._read("identity") or None

    def take_gpu(self, device: torch.device) -> None:
        import torch

        if ":" in str(device):
            raise ConfigError(f"device {device}: torchrun gives each process a GPU of its own; give cuda")
        number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= count:
            raise ConfigError(
                f"device {device}: process {number + 1} on {HOST} has no GPU, for there are {count}; give torchrun "
                f"--nproc-per-node {count}, or give --device cpu"
            )
        torch.cuda.set_device(number)

    def connect(self, device: torch.device) -> None:
        import torch.distributed as dist

        with self._noticing():
            self._store.set(f"ready/{self.rank}", "")
        self._wait_for([f"ready/{rank}" for rank in range(self.size)])  # PyTorch's own wait ends after 30 minutes only
        self._others = self._processes()
        with self._noticing():
            dist.init_process_group("gloo", store=self._store, rank=self.rank, world_size=self.size)
            if device.type == "cuda":
                self._gradients = dist.new_group(backend="nccl")

    def add_up(self, values: Sequence[float], model: nn.Module | None = None) -> Sequence[float]:
        import torch
        import torch.distributed as dist

        weights = [] if model is None else list(model.parameters())
        has_gradient = [float(weight.grad is not None) for weight in weights]
        sums = torch.tensor([*values, *has_gradient], dtype=torch.float64)
        with self._noticing():
            dist.all_reduce(sums)
        summed = sums.tolist()
        shared = [weight for weight, number in zip(weights, summed[len(values) :], strict=True) if number]
        if shared:
            gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in shared]
            flat = torch.cat([gradient.flatten() for gradient in gradients])
            with self._noticing():
                dist.all_reduce(flat, group=self._gradients)
            for weight, gradient in zip(shared, flat.split([each.numel() for each in shared]), strict=True):
                weight.grad = gradient.view_as(weight)
        return summed[: len(values)]

    def gather(self, value: T) -> list[T] | None:
        import torch.distributed as dist

        values: list[Any] | None = [None] * self.size if self.is_first else None
        with self._noticing():
            dist.gather_object(value, values)
        return values

    def spread(self, value: T | None) -> T:
        import torch.distributed as dist

        values: list[Any] = [value]
        with self._noticing():
            dist.broadcast_object_list(values)
        found: T = values[0]
        return found

    def spread_weights(self, model: nn.Module) -> None:
        import torch.distributed as dist

        for tensor in model.state_dict().values():
            with self._noticing():
                dist.broadcast(tensor, 0, group=self._gradients)

    def _wait_for(self, keys: list[str]) -> None:
        """Wait until the store has `keys`, or a rank has ended."""
        with self._noticing():
            while not self._store.check(keys):
                has_ended = self._marks() or any(each.is_dead() for each in self._processes().values())
                if has_ended and not self._store.check(keys):  # what it left before is valid
                    raise _LostError
                time.sleep(_SECONDS_BETWEEN_LOOKS)

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # PyTorch's, when a connection ends
            raise _LostError from error

    # How they end.

    def leave(self) -> None:
        """End after success."""
        import torch.distributed as dist

        if self.is_first:
            self.lead(_UNWANTED)  # where it has led, this does nothing
        self._mark(_DONE)
        if dist.is_initialized():
            dist.destroy_process_group()

    def end(self, error: BaseException) -> tuple[BaseException, bool]:
        """React to an error. Returns the error with which this process ends, and whether to print it here."""
        is_interrupt = isinstance(error, KeyboardInterrupt)
        if not (is_interrupt or isinstance(error, _LostError)):
            # The others may have come upon the same: then the first one tells it.
            is_told = not self.is_first and self._wait_for_mark_of_first()
            self._mark(_FAILED)
            return error, not is_told
        dead, cause = self._look_for_dead(_SECONDS_BETWEEN_LOOKS if is_interrupt else _SECONDS_TO_TELL)
        marks = self._marks().values()
        if not dead and _FAILED not in marks and (is_interrupt or _INTERRUPTED in marks):
            self._mark(_INTERRUPTED)
            return KeyboardInterrupt(), self.is_first
        self._mark(_LOST)
        is_told = not dead and _FAILED in marks
        lost = PeerError(cause or f"the connection to another process is lost; {_GO_ON}")
        return lost, not is_told and set(range(self.rank)) <= set(dead)

    def _look_for_dead(self, seconds: float) -> tuple[list[int], str]:
        """The ranks that ended without a mark, and a sentence about them; nothing if a rank gives the reason."""
        until = time.monotonic() + seconds
        while True:
            if self._has("dead"):
                dead, cause = parse_json(self._store.get("dead").decode())
                return dead, cause
            processes = self._processes()
            gone = [each for each in processes.values() if each.is_dead()]
            marks = self._marks()  # after that look: a mark comes before the end
            if gone := [each for each in gone if each.rank not in marks]:
                return self._name(gone, "ended without a word (killed, perhaps for lack of memory)")
            if {_FAILED, _INTERRUPTED} & set(marks.values()):
                return [], ""
            if time.monotonic() > until:
                break
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if seconds < _SECONDS_TO_TELL:
            return [], ""
        away = [each for rank, each in processes.items() if rank not in marks and not each.is_here()]
        return self._name(away, "cannot be reached") if away else ([], "")

    def _name(self, dead: list[_Process], what: str) -> tuple[list[int], str]:
        named = ", ".join(each.describe() for each in dead)
        found = [each.rank for each in dead], f"rank {named} {what}; {_GO_ON}"
        with contextlib.suppress(RuntimeError):
            self._store.set("dead", json_text(found))
        return found

    def _wait_for_mark_of_first(self) -> bool:
        until = time.monotonic() + 1.0
        while 0 not in self._marks() and time.monotonic() < until:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return 0 in self._marks()

    def _mark(self, how: str) -> None:
        with contextlib.suppress(RuntimeError):  # the store has gone with torchrun
            self._store.set(f"end/{self.rank}", how)

    def _marks(self) -> dict[int, str]:
        return {rank: mark for rank in range(self.size) if (mark := self._read(f"end/{rank}"))}

    def _processes(self) -> dict[int, _Process]:
        """The other ranks that have started."""
        if self._others:
            return self._others
        found = {rank: self._read(f"process/{rank}") for rank in range(self.size) if rank != self.rank}
        return {rank: _Process(*parse_json(text)) for rank, text in found.items() if text}

    def _has(self, key: str) -> bool:
        try:
            has: bool = self._store.check([key])
        except RuntimeError:
            return False
        return has

    def _read(self, key: str) -> str:
        return self._store.get(key).decode() if self._has(key) else ""


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks of the job to which this process belongs; ALONE without torchrun.

    Within the block, only the first rank prints. After it, the other ranks still print nothing about the progress of
    work.

    Raises PeerError if another rank has ended. Only one rank reports that.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield ALONE
        return
    job, stderr = _Job(), sys.stderr
    if not job.is_first:
        be_quiet()
        sys.stderr = _nowhere()  # of warnings and errors, too, one is enough
    try:
        yield job
        job.leave()
    except BaseException as error:
        _ignore_signals()
        told, is_told_here = job.end(error)
        if is_told_here:
            sys.stderr = stderr
        elif job.is_first:
            sys.stderr = _nowhere()
        if told is error:
            raise
        raise told from None
    else:
        sys.stderr = stderr


def _nowhere() -> IO[str]:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")


def _ignore_signals() -> None:
    """The end is sure: torchrun's signal, or one more Ctrl-C, is not to hide why."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
