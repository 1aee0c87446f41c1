"""The devices that networks run on: the CPU, or a GPU with CUDA. Loads PyTorch only where it is asked for a device."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from asrkit.errors import ConfigError
from asrkit.extras import expect_packages

if TYPE_CHECKING:
    import torch

CPU, AUTO = "cpu", "auto"
_CUDA = "cuda"
_DEVICE = re.compile(r"cpu|cuda(?::(0|[1-9][0-9]?))?")


def is_device(name: str) -> bool:
    """Whether `name` is cpu, cuda or cuda:N; N is the number of a GPU, from 0."""
    return _DEVICE.fullmatch(name) is not None


def is_device_or_auto(name: str) -> bool:
    """Whether `name` is a device or "auto": a GPU if there is one."""
    return name == AUTO or is_device(name)


def check_device(name: str) -> str:
    """Return `name` if it is a device. Raises ConfigError if not."""
    if is_device(name):
        return name
    raise ConfigError(f"expected cpu, cuda, or cuda:N for GPU number N (from 0), found {name!r}")


def gpu_number(name: str) -> int | None:
    """The number of the GPU that `name` means, 0 without a number; None for the CPU. Raises ConfigError for others."""
    if check_device(name) == CPU:
        return None
    return int(name.partition(":")[2] or 0)


def choose_device(name: str) -> torch.device:
    """The PyTorch device that `name` means: cpu, cuda, cuda:N, or auto for a GPU if there is one.

    Raises:
        ConfigError: there is no such device.
        MissingPackageError: PyTorch is not installed.
    """
    expect_packages(["torch"])
    import torch

    if name == AUTO:
        return torch.device(_CUDA if torch.cuda.is_available() else CPU)
    number = gpu_number(name)
    if number is None:
        return torch.device(CPU)
    if not torch.cuda.is_available():
        raise ConfigError(
            f"device {name}: PyTorch {torch.__version__} finds no GPU; install a build of PyTorch with CUDA and a "
            "driver (docs/gpu.md), or give cpu"
        )
    if number >= (count := torch.cuda.device_count()):
        raise ConfigError(f"device {name}: there are {count} GPUs here, and they are numbered from 0; give another")
    return torch.device(name)
