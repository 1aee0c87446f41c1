"""The checks of a GPU. They need PyTorch, NumPy and pytest, and nothing else of what asrkit needs.

ASRKIT_TEST_DEVICE names the device: cuda (the default) or cpu. Without a GPU the checks of cuda are left out.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec

import pytest
import torch


class SilentProgress:
    """Takes the place of tqdm's progress bar, and shows nothing."""

    def __init__(self, items: Iterable[object] = (), *args: object, **options: object) -> None:
        self._items = items

    def __iter__(self) -> Iterator[object]:
        return iter(self._items)

    def __enter__(self) -> SilentProgress:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def set_postfix_str(self, *args: object, **options: object) -> None:
        pass

    def update(self, number: int = 1) -> None:
        pass


# asrkit imports these. The checks show no progress, and read no audio and no settings. So an almost empty module does
# for each that is not installed. Whatever uses one all the same fails with AttributeError.
for _name, _content in {
    "tqdm": {"tqdm": SilentProgress},
    "soundfile": {"SoundFile": object},
    "soxr": {},
    "yaml": {"SafeLoader": object},
}.items():
    try:
        importlib.import_module(_name)
    except ImportError:
        sys.modules[_name] = module_from_spec(ModuleSpec(_name, None))  # torch asks for the spec
        vars(sys.modules[_name]).update(_content)


@pytest.fixture
def device() -> Iterator[torch.device]:
    """The device under test. Its products of matrices have the full precision of float32."""
    name = os.environ.get("ASRKIT_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU; ASRKIT_TEST_DEVICE=cpu runs the check on the CPU")
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield torch.device(name)
    for backend, allowed in zip(backends, before, strict=True):
        backend.allow_tf32 = allowed
