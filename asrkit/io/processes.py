"""Identifies processes as the owners of files, and tells whether a process still runs."""

from __future__ import annotations

import os
from pathlib import Path

HOST = os.uname().nodename


def start_time(process_id: int) -> str:
    """The start time of a process, in kernel ticks since the machine started; "0" if it is not known.

    The kernel reuses process numbers. Number and start time together identify one process.
    """
    fields = _status(process_id)
    return fields[19].decode() if fields else "0"


def is_running(process_id: int, started: str) -> bool:
    """Whether the process with this number and start time (as `start_time` gives it) still runs on this machine."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # it belongs to another user, or no process can have this number
    fields = _status(process_id)
    if fields and fields[0] in (b"Z", b"X"):  # a zombie: it has ended, but its parent has not waited for it
        return False
    return started == "0" or not fields or fields[19].decode() == started


def _status(process_id: int) -> list[bytes]:
    """The fields of /proc/PROCESS/stat from the state on; empty if the file does not exist."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        return []
    return status.rpartition(b")")[2].split()  # the name in parentheses may contain any character


def machine() -> str:
    """Identifies the space of process numbers: this start of the kernel, and its container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return HOST
