"""Files of several arrays, which are mapped into memory when they are read.

The arrays stand one behind the other, each in NumPy's format NPY, whose header gives its type and shape. The first one
is UTF-8 text with their names, one on each line. An array begins at a multiple of 64 bytes.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from asrkit.errors import DataError, location
from asrkit.io.atomic import atomic_write
from asrkit.io.files import open_file
from asrkit.io.numbers import parse_whole

_ALIGNMENT = 64
# Of all headers that NumPy takes, those that it writes for arrays of numbers: (n,) or (rows, cols).
_HEADER = re.compile(rb"\{'descr': '([<>|][biuf]\d+)', 'fortran_order': False, 'shape': \((\d+),(?: (\d+))?\), \} *\n")
_UNREADABLE = (ValueError, TypeError, OverflowError)  # what NumPy raises for types and sizes that cannot be

Columns = Mapping[str, np.ndarray]


def text_column(text: str) -> np.ndarray:
    """A text as an array (bytes,) uint8 of UTF-8."""
    return np.frombuffer(text.encode(), np.uint8)


def write_columns(path: str | Path, columns: Columns) -> None:
    """Write named arrays atomically. Raises OSError if the file cannot be written."""
    with atomic_write(path, "wb") as stream:
        for array in (text_column("\n".join(columns)), *columns.values()):
            npy.write_array(stream, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
            stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))


def read_columns(path: str | Path) -> dict[str, np.ndarray]:
    """Map the arrays of a file of `write_columns` into memory; they cannot be changed. Nothing is read but headers.

    Each has the shape (n,) or (rows, cols) with which it was written.

    Raises:
        DataError: the file is missing, cut short or of another kind.
    """
    try:
        with open_file(path) as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)  # stays open while an array is in use
            names = bytes(_next_array(stream, data)).decode().split("\n")
            return {name: _next_array(stream, data) for name in names}
    except (OSError, EOFError, *_UNREADABLE) as error:
        raise DataError(f"{location(path)}expected arrays as asrkit writes them ({error}); remove it") from None


def _next_array(stream: IO[bytes], data: mmap.mmap) -> np.ndarray:
    """The array whose header is next in the stream, which is left behind it. `data` is the whole file."""
    npy.read_magic(stream)
    header = _HEADER.fullmatch(stream.read(int.from_bytes(stream.read(2), "little")))
    if header is None:
        raise ValueError("a header of another kind")
    dtype, sizes = np.dtype(header[1].decode()), [parse_whole(size.decode()) for size in header.groups()[1:] if size]
    shape = [size for size in sizes if size is not None]
    if len(shape) < len(sizes):
        raise ValueError("an array of another size")
    count, begin = math.prod(shape), stream.tell()
    end = begin + count * dtype.itemsize
    stream.seek(end + -end % _ALIGNMENT)
    array: np.ndarray[Any, Any] = np.frombuffer(data, dtype, count, begin) if count else np.empty(0, dtype)
    return array.reshape(shape)
