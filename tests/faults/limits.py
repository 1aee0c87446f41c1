"""What runs share: what one may take, where their files are, and the option --part."""

import argparse
import os
import resource
from pathlib import Path

MAX_MEMORY = 2**30  # bytes
MAX_SECONDS = 60  # of one CPU
MAX_WAIT_S = 600  # for one that does nothing


def limit_memory() -> None:
    """Let this process, and those that it starts, have MAX_MEMORY more of addresses than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MAX_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def cpu_seconds(process: int) -> float:
    """What a process has used of a CPU; it does not depend on what else the machine does."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def in_memory() -> str | None:
    """Where a directory is quick, for what is written more often than disks like; None: where others are."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def add_part(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option --part; its value is a tuple of K and N."""
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help=f"the Kth of N parts of the {what}")


def _part(text: str) -> tuple[int, int]:
    part, _, num_parts = text.partition("/")
    if part.isdecimal() and num_parts.isdecimal() and 1 <= int(part) <= int(num_parts):
        return int(part), int(num_parts)
    raise argparse.ArgumentTypeError(f"expected K/N, such as 1/4, found {text!r}")
