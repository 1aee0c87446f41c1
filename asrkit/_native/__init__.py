"""The compiled kernels. Each stands beside a NumPy reference, which defines its results and serves in its place."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import sys
from types import ModuleType

KERNELS = ("_mfcc", "_beam", "_align", "_lstm")

_has_reported = False


@functools.cache
def kernel(name: str) -> ModuleType | None:
    """The compiled module `asrkit._native.NAME`, or None where the NumPy reference has to do its work.

    None when it was not built for this Python, or when ASRKIT_NO_NATIVE=1 was set at the first call. A process says
    that once, in one line on stderr; the workers of a pool leave it to the process that made the pool, which
    therefore calls this too.
    """
    if os.environ.get("ASRKIT_NO_NATIVE") == "1":
        _report("ASRKIT_NO_NATIVE is 1: the slower NumPy fallback is used")
        return None
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        _report(
            f"no compiled kernels ({error}): the slower NumPy fallback is used; to have them, provide a C compiler and "
            "Python's headers, then install asrkit again with pip"
        )
        return None


def _report(line: str) -> None:
    global _has_reported
    if not _has_reported and multiprocessing.parent_process() is None:
        print(f"asrkit: {line}", file=sys.stderr)
    _has_reported = True
