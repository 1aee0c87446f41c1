"""Two processes that train one network against two that train one each: `python -m tests.bench.distributed`.

Network and utterances are those of tests.bench.training. Each process computes batches of 16: so torchrun's two share
batches of 32. The contestants take turns; the median of the rounds' ratios counts. On a machine that does other work,
too, look at CPU time: what waits for others' work takes none.

The last line is JSON: {"ratios": {...}}: utterances a second of the two that train together over those of the two
alone, and the same of utterances a second of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import print_versions
from tests.bench.training import BATCH_SIZE, make_run, median_ratio

SIZE = 2


def serve(number: int) -> None:
    """Run an epoch for every line of stdin; says "ready", then CPU and elapsed seconds of each. A rank of a job."""
    import torch

    from asrkit.training.ranks import joined

    torch.manual_seed(0)
    torch.set_num_threads(1)
    with joined() as ranks, tempfile.TemporaryDirectory() as directory:
        ranks.connect(torch.device("cpu"))
        run = make_run(number * ranks.size, {"batch_size": BATCH_SIZE * ranks.size}, Path(directory), ranks)
        print("ready", flush=True)
        for _ in sys.stdin:
            cpu, elapsed = time.process_time(), time.perf_counter()
            run()
            print(time.process_time() - cpu, time.perf_counter() - elapsed, flush=True)


class Pair:
    """Two processes that run epochs on demand: of one job, or each alone."""

    def __init__(self, number: int, is_job: bool) -> None:
        command = [sys.executable, "-m", "tests.bench.distributed", "--serve", "--utts", str(number)]
        environment = [dict(os.environ) for _ in range(SIZE)]
        if is_job:
            from torch.distributed import TCPStore

            self._store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)  # torchrun's part
            for rank, each in enumerate(environment):
                each |= {"RANK": str(rank), "WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1"}
                each |= {"MASTER_PORT": str(self._store.port), "TORCHELASTIC_RUN_ID": "bench"}
                each["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.processes = [subprocess.Popen(command, text=True, bufsize=1, env=each, **pipes) for each in environment]
        self.cpu: list[float] = []
        self.elapsed: list[float] = []
        for process in self.processes:
            assert process.stdout.readline().strip() == "ready"

    def run(self) -> None:
        for process in self.processes:
            process.stdin.write("\n")
        cpu, elapsed = zip(*(map(float, process.stdout.readline().split()) for process in self.processes), strict=True)
        self.cpu.append(sum(cpu))
        self.elapsed.append(max(elapsed))

    def close(self) -> None:
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utts", type=int, default=64, help="utterances an epoch, for each process")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a trial: 2 utterances, one round")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.utts, args.rounds = 2, 1
    if args.serve:
        serve(args.utts)
        return
    print(f"{os.cpu_count()} CPUs")
    print_versions("torch")
    together, alone = pairs = Pair(args.utts, is_job=True), Pair(args.utts, is_job=False)
    try:
        for _ in range(1 + args.rounds):
            for pair in pairs:
                pair.run()
    finally:
        for pair in pairs:
            pair.close()
    ratios = {
        "two_processes": median_ratio(alone.elapsed[1:], together.elapsed[1:]),
        "two_processes_cpu": median_ratio(alone.cpu[1:], together.cpu[1:]),
    }
    print(json.dumps({"ratios": ratios}))


if __name__ == "__main__":
    main()
