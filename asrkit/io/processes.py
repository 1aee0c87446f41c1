"""Processes as the owners of files: who this one is, and whether another still runs."""

from __future__ import annotations

import os
from pathlib import Path

HOST = os.uname().nodename


def start_time(process_id: int) -> str:
    """When a process started, in the kernel's ticks since the machine did; "0" where that cannot be known.

    A number is given to another process in time; number and start together are one process's alone.
    """
    try:
        status = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        return "0"
    return status.rpartition(b")")[2].split()[19].decode()  # the name in parentheses may hold anything


def is_running(process_id: int, started: str) -> bool:
    """Whether the process of this machine that had this number and started then still runs."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or no number that a process has
    return started == "0" or start_time(process_id) in (started, "0")


def machine() -> str:
    """What numbers of processes belong to: this start of the kernel, and the container that numbers them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return HOST
