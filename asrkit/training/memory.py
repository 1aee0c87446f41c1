"""Memory that a training process frees is kept for its next step."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h


def keep_freed_memory() -> None:
    """Have glibc's malloc not give memory back to the system before the process ends; elsewhere do nothing.

    A step allocates the same large tensors as the one before. By default each of them is new memory, which costs a
    page fault every 4 KB: up to a third of a step's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_ARENA_MAX, 1)  # that of a thread could not hold large tensors
