"""The backends, which compute static features, by their names in the settings (docs/features.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from asrkit._native import kernel
from asrkit.features.backends.interface import BackendName, FeatureBackend
from asrkit.features.backends.librosa_backend import LibrosaBackend
from asrkit.features.backends.native import NativeBackend
from asrkit.features.backends.reference import NumpyBackend
from asrkit.features.backends.torchaudio_backend import TorchaudioBackend

BackendChoice = Literal["auto", BackendName]

BACKENDS: dict[BackendName, type[FeatureBackend]] = {
    backend.name: backend for backend in (NativeBackend, NumpyBackend, TorchaudioBackend, LibrosaBackend)
}


def backend_class(name: BackendChoice) -> type[FeatureBackend]:
    """The backend called `name`. "auto" is the compiled kernel if it is built, otherwise NumPy."""
    if name == "auto":
        return NumpyBackend if kernel("_mfcc") is None else NativeBackend
    return BACKENDS[name]


def names_of_backends(has: Callable[[type[FeatureBackend]], bool]) -> str:
    """The names of the backends for which `has` is true, for a message: "native or numpy"."""
    return " or ".join(name for name, backend in BACKENDS.items() if has(backend))
