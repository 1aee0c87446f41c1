"""Reads and writes Kaldi's binary archives (ark and scp) of matrices and vectors, as `copy-feats` does.

Archives are written atomically and read through memory maps. For each key, an archive holds:

- the key, a blank and `\\0B`;
- a type token: "FM " for a float matrix, "DM " for a double matrix, "FV " and "DV " for vectors, "CM ", "CM2 " and "CM3
"
  for compressed matrices;
- the sizes and the values, in little-endian order.

A line of the scp file gives a key, the path of the archive, and the offset of the `\\0B` in bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import struct
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.io.atomic import atomic_write
from asrkit.io.columns import Columns, text_column
from asrkit.io.files import open_file
from asrkit.io.numbers import parse_whole
from asrkit.io.scp import read_table, scan_lines, scan_table, write_table
from asrkit.io.stamp import read_outputs
from asrkit.io.tables import Keys

_DTYPES: dict[bytes, np.dtype[Any]] = {b"F": np.dtype("<f4"), b"D": np.dtype("<f8")}
# Token -> bytes per value, for Kaldi's compressed forms kSpeechFeature, kTwoByteAuto and kOneByteAuto.
_COMPRESSED = {b"CM": 1, b"CM2": 2, b"CM3": 1}
_MAX_RANGE = 1e37  # of values in compressed matrices, so that sums stay finite
# The system limits the number of maps. An scp file of another tool may name a separate archive for each utterance.
_MAX_MAPS = 256


class ArkWriter:
    """Writes an archive and its scp file. Both appear only if the `with` block ends without an exception.

    The scp file is sorted by key and gives the absolute path of the archive. It is written last. So if it is there, its
    archive is complete.
    """

    def __init__(self, ark_path: str | Path, scp_path: str | Path):
        self.ark_path = Path(os.path.abspath(ark_path))
        self.scp_path = Path(scp_path)
        self._offsets: dict[str, int] = {}

    def __enter__(self) -> ArkWriter:
        self._files = contextlib.ExitStack()
        self._stream = self._files.enter_context(atomic_write(self.ark_path, "wb"))
        return self

    def write(self, key: str, values: np.ndarray) -> None:
        """Append `values`, a matrix (rows, cols) or a vector (n,), float32 or float64, under `key`.

        Raises:
            DataError: the key was written before, is empty or contains blanks.
            TypeError: `values` has another shape or type.
        """
        if key in self._offsets:
            raise DataError(f"{location(self.ark_path)}{key} written a second time")
        if not key or any(blank in key for blank in " \t\r\n\0"):
            raise DataError(f"{location(self.ark_path)}key {key!r}: must not be empty or hold blanks or NUL characters")
        start, header, content = _entry(key, values)
        self._stream.write(start)
        self._offsets[key] = self._stream.tell()
        self._stream.write(header)
        self._stream.write(content)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # An old scp file must not point into the new archive, not even after the process was killed here.
            self.scp_path.unlink(missing_ok=True)
        self._files.__exit__(kind, error, trace)
        if kind is None:
            write_table(self.scp_path, {key: f"{self.ark_path}:{offset}" for key, offset in self._offsets.items()})


def _entry(key: str, values: np.ndarray) -> tuple[bytes, bytes, memoryview]:
    """What an archive holds for `values`, (rows, cols) or (n,): the key, the header and the values.

    Raises TypeError if `values` has another shape or type.
    """
    values = np.asarray(values)
    if values.ndim not in (1, 2) or values.dtype not in (np.float32, np.float64):
        raise TypeError(f"{key}: expected a float32 or float64 matrix or vector, found {values.dtype} {values.shape}")
    letter = b"F" if values.dtype == np.float32 else b"D"
    sizes = b"".join(struct.pack("<bi", 4, size) for size in values.shape)
    header = b"\0B" + letter + (b"M " if values.ndim == 2 else b"V ") + sizes
    return key.encode() + b" ", header, np.ascontiguousarray(values, _DTYPES[letter]).data


class ArkDigest:
    """Computes the SHA-256 of an archive that is not written."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def write(self, key: str, values: np.ndarray) -> None:
        """Add `values`, (rows, cols) or (n,), under `key`, as ArkWriter does. Raises TypeError as there."""
        for part in _entry(key, values):
            self._digest.update(part)

    def sha256(self) -> str:
        """The digest of the archive with all that was added."""
        return self._digest.hexdigest()


class ArkReader(Mapping[str, np.ndarray]):
    """The arrays of an scp file by key: (rows, cols) matrices and (n,) vectors.

    The reader needs a few tens of bytes of memory per key. `keys_by_row` has the keys in the order of the lines. An
    archive is mapped into memory when it is first used. Float matrices and vectors are read-only views of the file;
    compressed matrices become new float32 arrays. A reader can be pickled; the copy opens its own maps.
    """

    def __init__(
        self,
        scp_path: str | Path,
        *,
        root: str | Path | None = None,
        is_beside: bool = False,
        columns: Columns | None = None,
    ):
        """Open a table.

        Args:
            scp_path: the scp file.
            root: the directory in which relative paths of archives start (default: the current directory).
            is_beside: True if the archives lie in the directory of the table, whatever paths it gives. This holds for
                tables that `ArkWriter` wrote, even if they were moved.
            columns: the `columns()` of a reader of this file, which then is not read.

        Raises DataError if the scp file is missing or faulty. The message has a line for each fault.
        """
        self.scp_path = Path(scp_path)
        self._arks: array[int] | memoryview
        self._offsets: array[int] | memoryview
        if columns is None:
            self.keys_by_row = self._read()
        else:
            self.keys_by_row = Keys.of_columns(columns)
            self._arks, self._offsets = columns["archive"].data, columns["offset"].data
            self._named = columns["archives"].tobytes().decode().split("\n")
        if is_beside:
            self._paths = [os.path.join(self.scp_path.parent, os.path.basename(path)) for path in self._named]
        else:
            self._paths = [os.path.join(root or "", path) for path in self._named]
        self._maps: dict[int, mmap.mmap] = {}

    def columns(self) -> dict[str, np.ndarray]:
        """The content of the scp file: arrays, of shape (n,) for n keys but for those of texts."""
        return {
            **self.keys_by_row.columns(),
            "archive": np.asarray(self._arks, np.int32),
            "offset": np.asarray(self._offsets, np.int64),
            "archives": text_column("\n".join(self._named)),
        }

    def _read(self) -> Keys:
        """Read the scp file. Sets the place of each row, and the archives as the file names them."""
        arks, offsets = array("i"), array("q")
        self._arks, self._offsets = arks, offsets
        numbers: dict[str, int] = {}
        findings = Findings()
        keys = Keys(self._scan(numbers, (arks, offsets), findings))
        findings.raise_errors()
        self._named = list(numbers)
        return keys

    def _scan(
        self, numbers: dict[str, int], places: tuple[array[int], array[int]], findings: Findings
    ) -> Iterator[str]:
        """Yield the keys. Meanwhile fill `numbers` (archive -> its number), and archive and offset of each row."""
        arks, offsets = places
        for line, key, value in scan_table(self.scp_path, findings):
            if value.endswith("|") or value.startswith("|"):
                findings.error(
                    f"{key} is read from a pipe; write its features to an archive instead", self.scp_path, line
                )
            elif value.endswith("]"):
                findings.error(
                    f"{key} takes a range of rows or columns ({value}), which is not supported", self.scp_path, line
                )
            path, _, offset = value.rpartition(":")
            place: int | None = 0
            if path and offset.isascii() and offset.isdigit():
                place = parse_whole(offset)
            else:
                path = value  # a file with one array and no key
            if place is None:
                findings.error(f"{key}: no archive has a byte {offset}", self.scp_path, line)
            arks.append(numbers.setdefault(path, len(numbers)))
            offsets.append(place or 0)
            yield key

    @property
    def archives(self) -> list[str]:
        """The paths of the archives."""
        return list(self._paths)

    def places(self) -> Iterator[tuple[str, int, int]]:
        """For each key: the key, the index of its archive in `archives`, and the offset in the archive, in bytes."""
        return zip(self.keys_by_row, self._arks, self._offsets, strict=True)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __contains__(self, key: object) -> bool:
        return key in self.keys_by_row

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": {}}

    def _where(self, row: int) -> str:
        return f"{location(self.scp_path, row + 1)}{self._paths[self._arks[row]]}:{self._offsets[row]}: "

    def _map(self, row: int) -> mmap.mmap:
        number = self._arks[row]
        if number not in self._maps:
            path = self._paths[number]
            try:
                with open_file(path) as stream:
                    mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # mmap raises ValueError for an empty file
                reason = (error.strerror if isinstance(error, OSError) else None) or "empty file"
                raise DataError(
                    f"{location(self.scp_path, row + 1)}{path}: {reason}; expected a Kaldi archive"
                ) from None
            if len(self._maps) >= _MAX_MAPS:
                # Views that are still in use keep their map alive.
                self._maps.pop(next(iter(self._maps)))
            self._maps[number] = mapped
        return self._maps[number]

    def _header(self, row: int) -> tuple[mmap.mmap, bytes, tuple[int, ...], int, float, float]:
        """The header of an array: map, token, shape, offset of the values; minimum and range if it is compressed."""
        data, start = self._map(row), self._offsets[row]
        head = data[start : start + 32]
        token, blank, _ = head[2:].partition(b" ")
        begin = start + 2 + len(token) + 1
        sizes = head[2 + len(token) + 1 :]
        if head[:2] != b"\0B" or not blank or token not in (b"FM", b"DM", b"FV", b"DV", *_COMPRESSED):
            raise DataError(f"{self._where(row)}expected a binary Kaldi matrix or vector, found {head[:16]!r}")
        min_value = value_range = 0.0
        shape: tuple[int, ...]
        try:
            if token in _COMPRESSED:
                min_value, value_range, *rows_and_cols = struct.unpack_from("<ffii", sizes)
                shape = tuple(rows_and_cols)
                begin += 16
                if not abs(min_value) + abs(value_range) <= _MAX_RANGE:
                    raise DataError(
                        f"{self._where(row)}a compressed matrix with minimum {min_value:g} and range "
                        f"{value_range:g}; expected finite values; make it again"
                    )
                payload = shape[0] * shape[1] * _COMPRESSED[token] + (8 * shape[1] if token == b"CM" else 0)
            else:
                fields = struct.unpack_from("<bibi" if token[1:] == b"M" else "<bi", sizes)
                begin += 5 * (len(fields) // 2)
                shape = fields[1::2]
                payload = int(np.prod(shape, dtype=np.int64)) * _DTYPES[token[:1]].itemsize
                if any(size != 4 for size in fields[::2]):
                    raise DataError(f"{self._where(row)}not a Kaldi header: {head!r}")
        except struct.error:
            payload, shape = -1, ()
        if payload < 0 or any(size < 0 for size in shape) or begin + payload > len(data):
            left = f"{max(len(data) - begin, 0)} bytes are left in the file, the header {tuple(shape)} needs {payload}"
            raise DataError(
                f"{self._where(row)}archive cut short: {left if payload >= 0 else 'no header'}; make it again"
            )
        return data, token, tuple(shape), begin, min_value, value_range

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of an array, from its header alone. Raises KeyError and DataError as `[key]` does."""
        return self._header(self.keys_by_row.row(key))[2]

    def num_rows(self, key: str) -> int:
        """The number of rows of a matrix, or the length of a vector, from its header. Raises errors as `shape`."""
        return self.shape(key)[0]

    def __getitem__(self, key: str) -> np.ndarray:
        """The array of `key`: a matrix (rows, cols) or a vector (n,).

        Raises:
            KeyError: the table does not have the key.
            DataError: the archive is missing, truncated or not a binary Kaldi archive.
        """
        data, token, shape, begin, min_value, value_range = self._header(self.keys_by_row.row(key))
        if token in _COMPRESSED:
            return _decompress(data, token, shape, begin, min_value, value_range)
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0:
            return np.empty(shape, _DTYPES[token[:1]])
        return np.frombuffer(data, _DTYPES[token[:1]], count, begin).reshape(shape)


def is_own_table(scp_path: str | Path, stamp: Path) -> bool:
    """Whether a table is an output of the step with this stamp. If so, its archives are outputs and lie beside it."""
    return Path(scp_path).name in (read_outputs(stamp) or {})


def names_its_place(scp_path: Path) -> bool:
    """Whether a table that `ArkWriter` wrote names archives in its own directory: False after a move."""
    for _, _, value in scan_lines(scp_path, Findings()):
        try:
            return os.path.samefile(os.path.dirname(value), scp_path.parent)
        except OSError:
            return False
    return True


def name_new_place(scp_path: Path) -> None:
    """Correct the paths in a table that `ArkWriter` wrote, after it was moved together with its archives.

    Raises DataError if the table cannot be read, and OSError if it cannot be written.
    """
    rows = {key: os.path.basename(value) for key, value in read_table(scp_path).items()}
    directory = os.path.abspath(scp_path.parent)
    write_table(scp_path, {key: os.path.join(directory, place) for key, place in rows.items()})


def _decompress(
    data: mmap.mmap, token: bytes, shape: tuple[int, ...], begin: int, min_value: float, value_range: float
) -> np.ndarray:
    """The values (rows, cols) float32 of a compressed matrix, by the formulas of Kaldi's compressed-matrix.cc."""
    rows, cols = shape
    low, span = np.float32(min_value), np.float32(value_range)
    if rows * cols == 0:
        return np.empty(shape, np.float32)
    if token == b"CM2":
        codes = np.frombuffer(data, "<u2", rows * cols, begin).reshape(shape)
        return low + span * np.float32(1 / 65535) * codes.astype(np.float32)
    if token == b"CM3":
        codes = np.frombuffer(data, np.uint8, rows * cols, begin).reshape(shape)
        return low + span * np.float32(1 / 255) * codes.astype(np.float32)
    # Each column has its 0th, 25th, 75th and 100th percentile. A byte interpolates linearly between two of them.
    quantiles = np.frombuffer(data, "<u2", 4 * cols, begin).reshape(cols, 4)
    p0, p25, p75, p100 = (low + span * np.float32(1 / 65535) * quantiles.astype(np.float32)).T
    codes = np.frombuffer(data, np.uint8, rows * cols, begin + 8 * cols).reshape(cols, rows).T.astype(np.float32)
    lower = p0 + (p25 - p0) * codes * np.float32(1 / 64)
    middle = p25 + (p75 - p25) * (codes - 64) * np.float32(1 / 128)
    upper = p75 + (p100 - p75) * (codes - 192) * np.float32(1 / 63)
    return np.ascontiguousarray(np.where(codes <= 64, lower, np.where(codes <= 192, middle, upper)))
