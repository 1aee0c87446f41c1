"""All kinds of faults in full, one after the other; prints the table of docs/reliability.md.

    python -m tests.faults full --dir DIR

What each run says is kept in DIR/COMMIT, and a run that has ended there is not made again: after an interruption the
same command goes on.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The options of each kind, and in how many parts it is run.
RUNS: dict[str, tuple[tuple[str, ...], int]] = {
    "kills": ((), 4),
    "disk-full": ((), 4),
    "pairs": (("--count", "216"), 1),
    "cuts": (("--count", "0"), 1),
    "models": (("--count", "0"), 1),
    "fuzz": (("--seed", "22"), 4),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults full", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where what the runs say is kept")
    args = parser.parse_args()
    directory = args.dir / _commit()
    directory.mkdir(parents=True, exist_ok=True)
    print(f"commit {_commit()}, {_processor()}\n\n| kind | tried | right | wrong | command |\n|---|---|---|---|---|")
    all_wrong = 0
    for kind, (options, num_parts) in RUNS.items():
        counts = [0, 0, 0]
        for part in range(1, num_parts + 1):
            command = [kind, *options, *(("--part", f"{part}/{num_parts}") if num_parts > 1 else ())]
            counts = [sum(pair) for pair in zip(counts, _run(command, directory), strict=True)]
        all_wrong += counts[2]
        command = " ".join(["python -m tests.faults", kind, *options])
        print(f"| {kind} | {' | '.join(f'{count:,}' for count in counts)} | `{command}` |", flush=True)
    return 1 if all_wrong else 0


def _run(command: list[str], directory: Path) -> list[int]:
    """How many were tried, right and wrong."""
    log = directory / " ".join(command).replace("/", " of ")
    last = re.compile(rf"^{command[0]}: (\d+) tried, (\d+) right, (\d+) wrong$", re.MULTILINE)
    if not (log.exists() and last.search(log.read_text())):
        with log.open("w") as stream:
            subprocess.run([sys.executable, "-m", "tests.faults", *command], cwd=ROOT, stdout=stream, stderr=stream)
    found = last.search(log.read_text())
    if found is None:
        sys.exit(f"{log}: {command[0]} did not come to its end")
    return [int(number) for number in found.groups()]


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> str:
    found = re.search("^model name.*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return "" if found is None else found[1]


if __name__ == "__main__":
    sys.exit(main())
