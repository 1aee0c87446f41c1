"""What must not go wrong, whatever happens. `python -m tests.faults KIND [OPTIONS]` tries faults of one kind, and
`python -m tests.faults full --dir DIR` all of them (full.py).

Each kind is a module beside this one, with a function `main` that reads its options, tries one fault after the other,
prints how many were tried, right and wrong, and returns 1 where one was wrong.
"""

from __future__ import annotations

import importlib
import sys

KINDS = {
    "cuts": "files of a finished recipe that are deleted, cut short or changed",
    "disk-full": "disks that are full, at each change of a file that takes space",
    "fuzz": "damaged and made-up input for every parser",
    "kills": "processes that are killed, before each change of a file and at random times",
    "models": "model files that are damaged, or crafted to do harm",
    "pairs": "two runs that write one directory at the same time",
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in (*KINDS, "full"):
        print(__doc__, *(f"{name:9} {what}" for name, what in KINDS.items()), sep="\n")
        return 2
    del sys.argv[0]
    status: int = importlib.import_module(f"tests.faults.{sys.argv[0].replace('-', '_')}").main()
    return status


if __name__ == "__main__":
    sys.exit(main())
