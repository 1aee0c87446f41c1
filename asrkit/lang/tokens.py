"""The token table: the output classes of CTC and their symbols. File format: lines `symbol id`, as in Kaldi and k2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asrkit.errors import DataError, location, name_some
from asrkit.findings import Findings
from asrkit.io.atomic import atomic_write
from asrkit.io.text import read_text
from asrkit.lang.symbols import holds_control, name_symbols

BLANK = "<blk>"  # always id 0


class TokenTable:
    """Maps phone symbols to ids and back. Id 0 is the blank of CTC."""

    def __init__(self, phones: Iterable[str]):
        """`phones` are the symbols with the ids 1, 2, ... in order, without the blank.

        Raises DataError if a symbol is repeated, empty, contains white space or control characters, or is the blank.
        """
        self.symbols: tuple[str, ...] = (BLANK, *phones)
        findings = Findings()
        for symbol in self.symbols[1:]:
            if not symbol or symbol.split() != [symbol]:
                findings.error(f"token {symbol!r}: a symbol must be non-empty and hold no white space")
            elif holds_control(symbol):
                findings.error(f"token {symbol!r}: a symbol must hold no control characters")
        self.ids: dict[str, int] = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(self.ids) != len(self.symbols):
            repeated = sorted(symbol for symbol, times in Counter(self.symbols).items() if times > 1)
            findings.error(f"tokens given twice: {name_some(repeated)} ({BLANK} is reserved for CTC's blank)")
        findings.raise_errors()

    def __len__(self) -> int:
        return len(self.symbols)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenTable) and self.symbols == other.symbols

    def __contains__(self, phone: str) -> bool:
        return phone in self.ids and phone != BLANK

    @property
    def phones(self) -> tuple[str, ...]:
        """All symbols except the blank, in the order of their ids."""
        return self.symbols[1:]

    @property
    def phone_ids(self) -> Mapping[str, int | None]:
        """The id of each symbol that a transcript may contain. (`FoldedTokens` has None for a dropped symbol.)"""
        return {phone: self.ids[phone] for phone in self.phones}

    def encode(self, phones: Sequence[str], where: str = "") -> list[int]:
        """The ids of `phones`. Raises DataError if phones are unknown: the message names them all, after `where`."""
        unknown = sorted({phone for phone in phones if phone not in self})
        if unknown:
            prefix = f"{where}: " if where else ""
            raise DataError(f"{prefix}phones not in the token table: {name_symbols(unknown, self.phones)}")
        return [self.ids[phone] for phone in phones]

    def decode(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The symbols of `ids`."""
        return tuple(self.symbols[index] for index in ids)

    def write(self, path: str | Path) -> None:
        """Write the table atomically. Raises OSError if the file cannot be written."""
        with atomic_write(path) as stream:
            for index, symbol in enumerate(self.symbols):
                stream.write(f"{symbol} {index}\n")

    @classmethod
    def read(cls, path: str | Path) -> TokenTable:
        """Read a table. Its ids must count up from 0, and id 0 must be the blank.

        Raises DataError, with file and line, if the file is missing or a line is faulty.
        """
        findings = Findings()
        lines = (read_text(path, findings) or "").removesuffix("\n").split("\n")
        findings.raise_errors()
        symbols: list[str] = []
        for number, line in enumerate(lines):
            fields = line.split()
            if len(fields) != 2 or fields[1] != str(number):
                findings.error(f"expected `symbol {number}`, found {line!r}", path, number + 1)
            else:
                symbols.append(fields[0])
        if not findings.errors and symbols[:1] != [BLANK]:
            findings.error(f"expected `{BLANK} 0` first, found {lines[:1]}", path, 1)
        findings.raise_errors()
        try:
            return cls(symbols[1:])
        except DataError as error:
            raise DataError("\n".join(f"{location(path)}{fault}" for fault in str(error).split("\n"))) from None
