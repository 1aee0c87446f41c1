"""Benchmarks against other toolkits, each run as `python -m tests.bench.NAME` in .venv-bench (docs/native.md)."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before a benchmark imports NumPy or torch


def interleave(runs: Mapping[str, Callable[[], object]], rounds: int = 9) -> tuple[dict[str, float], dict[str, float]]:
    """Run each once to warm up, then all in turn `rounds` times.

    Returns the median CPU seconds of each run. For all runs except the first, returns also the median over the rounds
    of the run's time divided by the first run's. Other work of the machine slows both sides of a ratio, so it matters
    little.
    """
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    ours, *peers = runs
    ratios = {
        peer: statistics.median(theirs / own for theirs, own in zip(seconds[peer], seconds[ours], strict=True))
        for peer in peers
    }
    return {name: statistics.median(times) for name, times in seconds.items()}, ratios


def print_versions(*distributions: str) -> None:
    """Print the version of each distribution, or that it is not installed."""
    for name in distributions:
        try:
            print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name}: not installed")
