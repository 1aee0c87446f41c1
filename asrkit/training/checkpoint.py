"""Save and load PyTorch files: completely or not at all, and without running code from the file.

A file is a zip archive, as torch.save writes it, followed by a digest (io/seal.py).
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, TypeGuard

import torch
from torch import Tensor, nn

from asrkit.errors import ModelError, location, system_fault
from asrkit.io.atomic import atomic_write
from asrkit.io.files import open_file
from asrkit.io.seal import append_seal, check_seal

TRAIN_AGAIN, START_ANEW = "train again", "start anew with --force"
# The end of PyTorch's zip archives: the end records of zip64, its locator and the old end record without a comment.
_END = struct.Struct("<4s36xQQ 4s4xQ4x 4s16xH")
# The names in a pickle of tensors and plain values. PyTorch allows more names, for example for arrays of any size.
_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}
_NAMES |= {f"torch {kind}Storage" for kind in ("Float", "Double", "Long", "Int")}
_END_MARKS = (b"PK\x06\x06", b"PK\x06\x07", b"PK\x05\x06")


def save(path: str | Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values atomically."""
    with atomic_write(path, "wb") as stream:
        torch.save(content, stream)
        append_seal(stream)


def load(path: str | Path, remedy: str = TRAIN_AGAIN) -> dict[str, Any]:
    """Read a file of save() onto the CPU. The size of the file limits the memory.

    The caller must check the meaning of the values. `remedy` is the advice in messages, besides restoring the file.

    Raises:
        ModelError: the file is missing, unreadable or damaged, or contains anything but tensors and plain values.
    """
    try:
        with open_file(path) as stream:
            _expect_stored(stream, check_seal(stream, path, remedy))
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{location(path)}no such file; {remedy} or restore it") from None
    except ModelError:
        raise
    except pickle.UnpicklingError:  # PyTorch's own message suggests loading without weights_only, which could run code
        fault = "not a checkpoint of plain tensors"
        raise ModelError(f"{location(path)}{fault}; {remedy} or restore the file") from None
    except Exception as error:  # PyTorch raises errors of almost any type for other files
        refused = system_fault(error, path)
        if refused is not None and (not isinstance(error, OSError) or error.filename is not None):
            raise ModelError(str(refused)) from None
        fault = f"not a readable checkpoint ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise ModelError(f"{location(path)}{fault}; {remedy} or restore the file") from None
    if not isinstance(content, dict):
        raise ModelError(f"{location(path)}expected a dictionary of tensors, found {type(content).__name__}")
    return content


def _expect_stored(stream: IO[bytes], size: int) -> None:
    """Raise ValueError unless the first `size` bytes are a zip archive that does not unpack to more bytes.

    PyTorch has its own zip reader. The end records are checked so strictly that it must find the same directory. Raises
    UnpicklingError if the archive would create anything but tensors and plain values.
    """
    if size < _END.size:
        raise ValueError("not a zip archive")
    stream.seek(size - _END.size)
    end = _END.unpack(stream.read(_END.size))
    mark64, directory_size, directory_at, locator_mark, end64_at, end_mark, comment_size = end
    begins_at = size - _END.size
    is_plain = (mark64, locator_mark, end_mark) == _END_MARKS and comment_size == 0
    if not is_plain or end64_at != begins_at or directory_at + directory_size != begins_at:
        raise ValueError("not a zip archive as PyTorch writes them")
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("a compressed zip archive")
        if sum(member.file_size for member in members) > size:
            raise ValueError("a zip archive whose members are larger than itself")
        for member in members:
            if member.filename.lower().endswith("data.pkl"):  # PyTorch looks for it in either case
                _expect_plain(archive.read(member))
    stream.seek(0)


def _expect_plain(pickled: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("STACK_GLOBAL", "INST") or (opcode.name == "GLOBAL" and argument not in _NAMES):
            raise pickle.UnpicklingError(f"{opcode.name} {argument}")


def fitting_weights(
    weights: object, model: nn.Module, path: str | Path, remedy: str = TRAIN_AGAIN
) -> dict[str, Tensor]:
    """Check `weights`, read from `path`, against a model; return them for the model's load_state_dict.

    The result maps names to tensors of the shape of the model's. The model may be on PyTorch's meta device.

    Raises:
        ModelError: tensors have other names, types or shapes.
    """
    expected = model.state_dict()
    fitting = {}
    for name, tensor in expected.items():
        value = weights.get(name) if isinstance(weights, dict) else None
        if is_like(value, tensor):
            fitting[name] = value
    if not isinstance(weights, dict) or weights.keys() != fitting.keys() or fitting.keys() != expected.keys():
        raise ModelError(
            f"{location(path)}weights do not fit the model that its settings describe; {remedy} or restore the file"
        )
    return fitting


def is_like(value: object, tensor: Tensor) -> TypeGuard[Tensor]:
    """Whether a value is a contiguous tensor on the CPU with the same type and shape."""
    return (
        isinstance(value, Tensor)
        and (value.dtype, value.shape, value.layout) == (tensor.dtype, tensor.shape, torch.strided)
        and value.device.type == "cpu"
        and value.is_contiguous()
    )
