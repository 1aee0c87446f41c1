"""Saving and loading PyTorch files: whole or not at all, and without running code from the file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from asrkit.errors import ModelError, location
from asrkit.io.atomic import atomic_write


def save(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values atomically."""
    with atomic_write(path, "wb") as stream:
        torch.save(content, stream)


def load(path: str | Path) -> dict[str, Any]:
    """Read what save() wrote, onto the CPU.

    Raises:
        ModelError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{location(path)}no such file") from None
    except pickle.UnpicklingError:  # PyTorch's text advises to load it without weights_only, which could run its code
        raise ModelError(
            f"{location(path)}not a checkpoint of plain tensors; train again or restore the file"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise ModelError(
            f"{location(path)}not a readable checkpoint ({reason}); train again or restore the file"
        ) from None
    if not isinstance(content, dict):
        raise ModelError(f"{location(path)}expected a dictionary of tensors, found {type(content).__name__}")
    return content
