"""Try faults of one kind and print how many were tried, right and wrong: `python -m tests.faults KIND [options]`."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

KINDS = {"models": "model files that are damaged, or crafted to do harm"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, summary in KINDS.items():
        importlib.import_module(f"tests.faults.{name}").configure(kinds.add_parser(name, help=summary))
    args = parser.parse_args()
    began, num_tried, num_wrong = time.monotonic(), 0, 0
    for outcome in importlib.import_module(f"tests.faults.{args.kind}").outcomes(args):
        num_tried += 1
        if outcome.wrong is not None:
            num_wrong += 1
            print(f"{outcome.name}: {outcome.wrong}", file=sys.stderr, flush=True)
    print("kind      tried  right  wrong  seconds")
    print(f"{args.kind:8} {num_tried:6} {num_tried - num_wrong:6} {num_wrong:6} {time.monotonic() - began:8.0f}")
    return int(num_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
