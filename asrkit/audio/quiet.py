"""Discards the messages that a C library writes to standard error, in any number of threads."""

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
    """glibc's variable `stderr`, and a stream that discards what is written; None with other C libraries.

    glibc documents that a program may set `stderr` like any variable. Python does not use this variable: it writes to
    the file descriptor. The second stream is never closed, so that no thread can write to a closed stream.
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
    """Discard what C code writes to `stderr` within the block. libmpg123 prints remarks that no option turns off.

    File descriptor 2 stays unchanged, so messages that Python prints in other threads still appear.
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
