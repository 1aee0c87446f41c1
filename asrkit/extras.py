"""The optional packages, which the extras of setup.cfg install, and the message about a missing one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from asrkit.errors import MissingPackageError, printable

DISTRIBUTION = "asrkit-phones"  # the name of asrkit for pip, as in setup.cfg
TRAINING = ("torch", "onnx", "matplotlib", "tensorboardX")
CLUSTER = ("dask", "dask_jobqueue", "distributed")
EXTRAS = {
    "cluster": CLUSTER,
    "train": (*TRAINING, "torchaudio", "librosa"),
    "microphone": ("sounddevice",),
    "mini": ("espeakng_loader",),
    "web": ("h11", "starlette", "uvicorn", "wsproto"),
}
_EXTRA_OF = {module: extra for extra, modules in EXTRAS.items() for module in modules}


@contextmanager
def named_when_missing() -> Iterator[None]:
    """Raise MissingPackageError instead of ModuleNotFoundError in the block, if the package belongs to an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in _EXTRA_OF:
            raise
        raise MissingPackageError(_line([module])) from None


def expect_packages(modules: Iterable[str]) -> None:
    """Raise MissingPackageError if some of the `modules` are not installed; it names them all. Loads none of them."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise MissingPackageError(_line(missing))


def _line(missing: list[str]) -> str:
    verb = "which is" if len(missing) == 1 else "which are"
    python = shlex.quote(printable(sys.executable))
    return (
        f"needs {', '.join(missing).replace('_', '-')}, {verb} not installed; install with: {python} -m pip install "
        f"'{DISTRIBUTION}[{_EXTRA_OF[missing[0]]}]'"
    )
