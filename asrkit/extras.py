"""Packages that not every installation has, those of the extras of setup.cfg, and how to install one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from asrkit.errors import MissingPackageError, printable

DISTRIBUTION = "asrkit-phones"  # what pip knows asrkit by; setup.cfg gives it the same name
TRAINING = ("torch", "onnx", "matplotlib", "tensorboardX")
EXTRAS = {
    "train": (*TRAINING, "torchaudio", "librosa"),
    "microphone": ("sounddevice",),
    "mini": ("espeakng_loader",),
    "web": ("h11", "starlette", "uvicorn", "wsproto"),
}
_EXTRA_OF = {module: extra for extra, modules in EXTRAS.items() for module in modules}


@contextmanager
def named_when_missing() -> Iterator[None]:
    """Raise MissingPackageError in place of the ModuleNotFoundError of a package that an extra brings."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF:
            raise
        raise MissingPackageError(_line([module])) from None


def expect_packages(modules: Iterable[str]) -> None:
    """Raise MissingPackageError, which names them all, when some of these are not installed. Loads none of them."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise MissingPackageError(_line(missing))


def _line(missing: list[str]) -> str:
    verb = "which is" if len(missing) == 1 else "which are"
    python = shlex.quote(printable(sys.executable))
    return (
        f"needs {', '.join(missing).replace('_', '-')}, {verb} not installed; install with: {python} -m pip install "
        f"'{DISTRIBUTION}[{_EXTRA_OF[missing[0]]}]'"
    )
