"""The compiled kernels. Each has a NumPy reference, which defines its results and replaces it if it is missing."""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

KERNELS = ("_mfcc", "_beam", "_align", "_lstm", "_transducer", "_attention", "_ctc_prefix")

_PARENT_HAS_REPORTED = "ASRKIT_KERNELS_REPORTED"  # an environment variable, which worker processes read
_has_reported = False


@functools.cache
def kernel(name: str) -> ModuleType | None:
    """The compiled module `asrkit._native.NAME`, or None if the NumPy reference has to be used.

    It is None if the kernel was not built for this Python, or if ASRKIT_NO_NATIVE=1 was set at the first call. The
    process then prints the cause once, in one line on standard error. Worker processes print nothing if the process
    that started them has reported it. So that process should call this function, too.
    """
    if os.environ.get("ASRKIT_NO_NATIVE") == "1":
        if multiprocessing.parent_process() is None:
            _report("ASRKIT_NO_NATIVE is 1: the slower NumPy fallback is used")
        return None
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        if multiprocessing.parent_process() is None or os.environ.get(_PARENT_HAS_REPORTED) is None:
            _report(
                f"no compiled kernel {name} ({_cause(name, error)}): the slower NumPy fallback is used; to have the "
                "kernels, provide a C compiler and Python's headers, then install asrkit again with pip"
            )
        return None


def _cause(name: str, error: ImportError) -> str:
    built = sorted(path.name for path in Path(__file__).parent.glob(f"{name}.*{EXTENSION_SUFFIXES[-1]}"))
    if f"{name}{EXTENSION_SUFFIXES[0]}" in built:
        return f"{name}{EXTENSION_SUFFIXES[0]} cannot be loaded: {error}"
    wanted = f"{name}{EXTENSION_SUFFIXES[0]} is not there"
    return f"{wanted}, only {' '.join(built)} for other Pythons" if built else f"{wanted}: never built, or removed"


def _report(line: str) -> None:
    global _has_reported
    if not _has_reported:
        print(f"asrkit: {line}", file=sys.stderr)
    _has_reported = True
    os.environ[_PARENT_HAS_REPORTED] = "1"
