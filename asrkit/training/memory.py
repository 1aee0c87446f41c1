"""Keep the memory that a training process frees for its next step."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc's malloc keep freed memory until the process ends. Does nothing on other systems.

    Each step allocates large tensors like the previous step. By default each of them is new memory, which costs one
    page fault per 4 KB: up to a third of a step's time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_ARENA_MAX, 1)  # arenas of threads cannot hold large tensors
