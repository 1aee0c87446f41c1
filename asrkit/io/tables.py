"""Keeps the keys of large tables in little memory: all keys in one string, and arrays instead of Python objects."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.io.columns import Columns
from asrkit.io.scp import scan_table, split_row
from asrkit.io.text import TextFile


class Keys(Sequence[str]):
    """Unique strings in a given order, by row. Each needs about 15 bytes in addition to its text.

    Raises IndexError for `keys[row]` if there is no such row.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        text, bounds = bytearray(), array("q", [0])
        last, ascending = None, True
        for key in keys:
            encoded = key.encode()
            text += encoded
            bounds.append(len(text))
            ascending = ascending and (last is None or last < encoded)
            last = encoded
        self._text: bytes | memoryview = bytes(text)
        self._bounds: array[int] | memoryview = bounds
        # Rows in the order of UTF-8 bytes. Most tables are sorted like this; then None is enough.
        self._order: array[int] | memoryview | None = None
        if not ascending:
            self._order = array("i", sorted(range(len(self)), key=self._encoded))
        self._last = -1  # row of the last look-up: the next look-up often finds the next row

    @classmethod
    def of_columns(cls, columns: Columns) -> Keys:
        """The keys whose `columns()` these are. They stay where they are, in a file for example."""
        keys = cls(())
        keys._text, keys._bounds = columns["keys"].data, columns["key_bounds"].data
        keys._order = columns["key_order"].data if len(columns["key_order"]) else None
        return keys

    def columns(self) -> dict[str, np.ndarray]:
        """All of the keys: their text (bytes,), its bounds (n + 1,), and the order (n,) of the rows; (0,) if sorted."""
        return {
            "keys": np.frombuffer(self._text, np.uint8),
            "key_bounds": np.asarray(self._bounds, np.int64),
            "key_order": np.asarray([] if self._order is None else self._order, np.int32),
        }

    def in_order(self) -> Iterator[str]:
        """The keys in the order of their UTF-8 bytes."""
        return iter(self) if self._order is None else (self[row] for row in self._order)

    def span(self) -> tuple[str, str]:
        """The first and the last key in the order of UTF-8 bytes. Raises IndexError if there are no keys."""
        first, last = (0, -1) if self._order is None else (self._order[0], self._order[-1])
        return self[first], self[last]

    def _encoded(self, row: int) -> bytes:
        return bytes(self._text[self._bounds[row] : self._bounds[row + 1]])

    def __len__(self) -> int:
        return len(self._bounds) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} keys")
        return self._encoded(row % len(self)).decode()

    def __iter__(self) -> Iterator[str]:
        return (bytes(self._text[start:end]).decode() for start, end in itertools.pairwise(self._bounds))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Keys) and self._text == other._text and self._bounds == other._bounds
        )

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.find(key) >= 0

    def find(self, key: str) -> int:
        """The row of `key`; -1 if it is missing. Fastest if keys are looked up in their order."""
        # The comparisons are written out, because a function call for each would take most of the time.
        encoded, text, bounds, order = key.encode(), self._text, self._bounds, self._order
        num_keys = len(bounds) - 1
        for row in (self._last + 1, self._last):
            if 0 <= row < num_keys and text[bounds[row] : bounds[row + 1]] == encoded:
                self._last = row
                return row
        low, high = 0, num_keys
        while low < high:
            middle = (low + high) // 2
            row = middle if order is None else order[middle]
            if bytes(text[bounds[row] : bounds[row + 1]]) < encoded:
                low = middle + 1
            else:
                high = middle
        if low == num_keys:
            return -1
        row = low if order is None else order[low]
        if text[bounds[row] : bounds[row + 1]] != encoded:
            return -1
        self._last = row
        return row

    def row(self, key: str) -> int:
        """The row of `key`. Raises KeyError if it is missing."""
        row = self.find(key)
        if row < 0:
            raise KeyError(key)
        return row

    def repeated(self) -> list[str]:
        """The keys that occur more than once, sorted."""
        if self._order is None:
            return []
        pairs = itertools.pairwise(self._order)
        return sorted({self[a] for a, b in pairs if self._encoded(a) == self._encoded(b)})


class Numbers(Mapping[str, int]):
    """A whole number for each key: `values_by_row` (n,) int64 has the numbers of `keys_by_row`."""

    def __init__(self, keys_by_row: Keys, values_by_row: np.ndarray) -> None:
        self.keys_by_row = keys_by_row
        self.values_by_row = values_by_row

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> Numbers:
        """The same numbers, in this compact form."""
        if isinstance(numbers, Numbers):
            return numbers
        return cls(Keys(numbers), np.fromiter(numbers.values(), np.int64, len(numbers)))

    def where(self, wanted: np.ndarray) -> Numbers:
        """The keys and numbers of the rows for which `wanted` (n,) bool is True."""
        if wanted.all():
            return self
        keys = (key for key, is_wanted in zip(self.keys_by_row, wanted.tolist(), strict=True) if is_wanted)
        return Numbers(Keys(keys), self.values_by_row[wanted])

    def __getitem__(self, key: str) -> int:
        return int(self.values_by_row[self.keys_by_row.row(key)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __contains__(self, key: object) -> bool:
        return key in self.keys_by_row


class LazyTable(Mapping[str, str]):
    """A table whose values stay in the file until they are used. It needs a few tens of bytes of memory per row."""

    def __init__(
        self, path: str | Path, *, empty_ok: bool = False, look: Callable[[int, str, str], object] | None = None
    ) -> None:
        """`look` is called with the line number, key and value of each row. Raises DataError as `read_table`."""
        self.path = Path(path)
        self._file = TextFile(path)
        findings = Findings()
        self.keys_by_row = Keys(self._scan(findings, empty_ok, look))
        findings.raise_errors()
        self._offsets = array("q")  # of the rows: each line is one, as there were no errors
        with self._file.open() as stream:
            offset = stream.tell()
            for line in stream:
                self._offsets.append(offset)
                offset += len(line)

    def _scan(
        self, findings: Findings, empty_ok: bool, look: Callable[[int, str, str], object] | None
    ) -> Iterator[str]:
        for line, key, value in scan_table(self.path, findings, empty_ok=empty_ok):
            if look is not None:
                look(line, key, value)
            yield key

    def __getitem__(self, key: str) -> str:
        """The value of `key`. Raises KeyError if it is missing, and DataError if the file was changed meanwhile."""
        row = self.keys_by_row.find(key)
        if row < 0:
            raise KeyError(key)
        try:
            with self._file.open() as stream:
                stream.seek(self._offsets[row])
                found, value = split_row(stream.readline().decode("utf-8"))
        except (OSError, DataError, UnicodeDecodeError):
            found, value = None, ""
        if found != key:
            raise DataError(
                f"{location(self.path, row + 1)}no longer the line of {key}; the file was changed while in use"
            )
        return value

    def rows(self) -> Iterator[tuple[str, str]]:
        """All keys with their values, in the order of the file. Faster than to look up each key."""
        return ((key, value) for _, key, value in scan_table(self.path, Findings(), empty_ok=True))

    def follow(self, keys: Iterable[str]) -> Iterator[str]:
        """The values of `keys`. Fast if `keys` are the keys of the file in its order, from the first on.

        Raises KeyError and DataError as `[key]`.
        """
        rows, keys = self.rows(), iter(keys)
        for key in keys:
            row_key, value = next(rows, ("", ""))
            if row_key != key:
                break
            yield value
        else:
            return
        yield self[key]
        yield from map(self.__getitem__, keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __contains__(self, key: object) -> bool:
        return key in self.keys_by_row
