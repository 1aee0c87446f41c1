"""Processes as the owners of files: who this one is, and whether another still runs."""

from __future__ import annotations

import os
from pathlib import Path

HOST = os.uname().nodename


def start_time(process_id: int) -> str:
    """When a process started, in the kernel's ticks since the machine did; "0" where that cannot be known.

    A number is given to another process in time; number and start together are one process's alone.
    """
    fields = _status(process_id)
    return fields[19].decode() if fields else "0"


def is_running(process_id: int, started: str) -> bool:
    """Whether the process of this machine that had this number and started then still runs."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's, or no number that a process has
    fields = _status(process_id)
    if fields and fields[0] in (b"Z", b"X"):  # it has ended; its parent, as init in some containers, does not ask how
        return False
    return started == "0" or not fields or fields[19].decode() == started


def _status(process_id: int) -> list[bytes]:
    """The fields of /proc/PROCESS/stat from the state on; none where there is no such file."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        return []
    return status.rpartition(b")")[2].split()  # the name in parentheses may hold anything


def machine() -> str:
    """What numbers of processes belong to: this start of the kernel, and the container that numbers them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return HOST
