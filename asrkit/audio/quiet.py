"""Keeps what a C library writes to standard error away from the terminal, in any number of threads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_num_users = 0
_original: int | None = None


def _load() -> tuple[ctypes.c_void_p, int] | None:
    """glibc's variable `stderr`, and a stream that goes nowhere; None with other C libraries.

    glibc documents that its `stderr` may be set like any variable. Python itself writes to the file descriptor and
    does not look at it. The other stream stays open for ever, so that no thread writes to one that was closed.
    """
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        library = ctypes.CDLL(None)
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(os.devnull.encode(), b"w")
        return (ctypes.c_void_p.in_dll(library, "stderr"), nowhere) if nowhere else None
    except (OSError, ValueError, AttributeError):
        return None


_streams = _load()


@contextlib.contextmanager
def quiet_c_library() -> Iterator[None]:
    """Within it, C's `stderr` goes nowhere. libmpg123 prints remarks there that cannot be turned off from outside.

    The file descriptor 2 stays as it is: what Python prints in other threads at the same time is seen.
    """
    global _num_users, _original
    if _streams is None:
        yield
        return
    variable, nowhere = _streams
    with _lock:
        if _num_users == 0:
            _original, variable.value = variable.value, nowhere
        _num_users += 1
    try:
        yield
    finally:
        with _lock:
            _num_users -= 1
            if _num_users == 0:
                variable.value = _original
