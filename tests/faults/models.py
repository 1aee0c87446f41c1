"""Model files that are damaged, or crafted to do harm: each is refused in one line, or is a model that works.

A process of its own reads them, within bounds of memory and time; where one ends it, that is wrong, too.
`python -m tests.faults.models --count 500` reads so many and prints what became of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import multiprocessing
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import numpy as np

from asrkit.decoding import prefix_beam
from asrkit.errors import AsrkitError
from asrkit.experiment import load_experiment
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer
from asrkit.inference.torch_model import TorchModel
from asrkit.io.json_text import json_text
from asrkit.types import Waveform
from tests.faults import crafted_onnx, crafted_pt
from tests.faults.crafted import Case
from tests.faults.limits import MAX_SECONDS, MAX_WAIT_S, cpu_seconds, limit_memory

_RATE = 16000


def run(count: int, seed: int) -> Counter[str]:
    """Read `count` files chosen by the seed, 0 for all. Returns how many were tried, right and wrong; prints those."""
    results: Counter[str] = Counter()
    numbers = list(range(len(all_cases())))
    if count:
        numbers = random.Random(seed).sample(numbers, min(count, len(numbers)))
    with Reader() as reader:
        for number in numbers:
            name, wrong = reader.read(number)
            results.update(["tried", "right" if wrong is None else "wrong"])
            if wrong is not None:
                print(f"{name}: {wrong}", file=sys.stderr, flush=True)
    return results


def all_cases() -> list[Case]:
    return [*crafted_onnx.cases(), *crafted_pt.cases()]


def judge(case: Case) -> str | None:
    """What went wrong when a model file was read; None when it was refused in one line, or is a model that works."""
    said, directory = io.StringIO(), tempfile.TemporaryDirectory()
    with directory, contextlib.chdir(directory.name), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path("model.onnx" if case.kind == "onnx" else case.kind).absolute()
        path.write_bytes(case.make())
        wrong = _fault_of(path, case)
        if (left := os.listdir()) != [path.name]:
            return f"it left {left}"
    return wrong


def _fault_of(path: Path, case: Case) -> str | None:
    try:
        JUDGES[case.kind](path)
    except AsrkitError as error:
        if "\n" in str(error) or not str(error).isprintable():
            return f"an error that is not one line: {str(error)!r}"
        return None if str(path) in str(error) else f"an error that does not name the file: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "it was taken for a model" if case.must_fail else None


def _recognize(model: OnnxModel | TorchModel) -> None:
    """Recognize, with the language model in both of its forms, and look at what comes out."""
    samples = (1000 * np.sin(np.arange(_RATE // 2) / 9) * np.sin(np.arange(_RATE // 2) / 3000)).astype(np.float32)
    for max_table in (prefix_beam._MAX_TABLE, 0):
        with mock.patch.object(prefix_beam, "_MAX_TABLE", max_table):
            recognizer = Recognizer(model)
            rate = recognizer.features.sample_rate
            hypothesis = recognizer.transcribe(Waveform(samples, rate), "speech", num_best=2)
        assert set(hypothesis.phones) <= set(model.tokens.phones)
        assert all(0.0 <= confidence <= 1.0 for confidence in hypothesis.confidences)
        assert all(math.isfinite(time.start) and time.start <= time.end for time in hypothesis.times)
        json_text([hypothesis.phones, hypothesis.log_prob, hypothesis.confidences]).encode()


def _read_onnx(path: Path) -> None:
    _recognize(OnnxModel(path))


def _read_final(path: Path) -> None:
    _recognize(TorchModel(load_experiment(path.parent)))


def _read_checkpoint(path: Path) -> None:
    state = crafted_pt.new_state(path.parent)
    for weight in state.model.parameters():
        weight.grad = 0 * weight.detach()
    state.optimizer.step()


JUDGES: dict[str, Callable[[Path], None]] = {
    "onnx": _read_onnx,
    "final.pt": _read_final,
    "checkpoint.pt": _read_checkpoint,
}


class Reader:
    """A process that reads cases, started anew where one ended it."""

    def __init__(self) -> None:
        self._cases = all_cases()
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def read(self, number: int) -> tuple[str, str | None]:
        """A case's name, and what was wrong with it."""
        case = self._cases[number]
        name = f"{case.kind}: {case.name}"
        if self._process is None:
            self._start()
        self._pipe.send(number)
        try:
            if not self._answers():
                self._stop()
                return name, f"it took more than {MAX_SECONDS} seconds"
            return name, self._pipe.recv()
        except EOFError:
            self._process.join()
            status, self._process = self._process.exitcode, None
            return name, f"it ended the process (status {status})"

    def _answers(self) -> bool:
        """Whether an answer comes in time."""
        process = self._process.pid
        used, since = cpu_seconds(process), time.monotonic()
        while not self._pipe.poll(1):
            if cpu_seconds(process) - used > MAX_SECONDS or time.monotonic() - since > MAX_WAIT_S:
                return False
        return True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_read_all, args=(other,))
        self._process.start()
        other.close()
        self._pipe.recv()  # it is ready

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        self._process = None


def _read_all(pipe: Connection) -> None:
    cases = all_cases()
    for kind in JUDGES:  # what is imported, and made ready, once
        judge(next(case for case in cases if case.kind == kind))
    judge(Case("as it is", "onnx", crafted_onnx.right))
    limit_memory()
    pipe.send(None)
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(judge(cases[pipe.recv()]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="files to read (default: %(default)s); 0: all")
    parser.add_argument("--seed", type=int, default=0, help="which of them (default: %(default)s)")
    args = parser.parse_args()
    results = run(args.count, args.seed)
    print(f"models: {results['tried']} tried, {results['right']} right, {results['wrong']} wrong")
    return 1 if results["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
