"""Reads and writes back-off n-gram models in ARPA format. A line: `log10-probability TAB n-gram TAB log10-back-off`.

The reader accepts the same files as KenLM, with the same meaning: the variants of SRILM, IRSTLM and others.
"""

from __future__ import annotations

import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.io.atomic import atomic_write
from asrkit.io.numbers import parse_number, parse_whole
from asrkit.io.text import open_text

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
NEVER = -99.0  # SRILM's log10 probability of an impossible event, and of <s>, which is never predicted

Ngram = tuple[str, ...]


class _Decompressor(Protocol):
    """The interface that the decompressors of zlib, bz2 and lzma share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


NgramTable = Mapping[Ngram, tuple[float, float]]  # n-gram -> log10 probability and log10 back-off weight


def write_arpa(tables: Sequence[NgramTable], path: str | Path) -> None:
    """Write n-grams in ARPA format, atomically; see `arpa_text`. Raises OSError if the file cannot be written."""
    with atomic_write(path) as stream:
        stream.writelines(_lines(tables))


def arpa_text(tables: Sequence[NgramTable]) -> str:
    """The text of n-grams in ARPA format. `tables` has one table for each order, from 1 on.

    Numbers are written with all digits, so `parse_arpa` gives exactly the same tables.
    """
    return "".join(_lines(tables))


def _lines(tables: Sequence[NgramTable]) -> Iterator[str]:
    yield "\\data\\\n"
    for n, ngrams in enumerate(tables, 1):
        yield f"ngram {n}={len(ngrams)}\n"
    for n, ngrams in enumerate(tables, 1):
        yield f"\n\\{n}-grams:\n"
        for ngram, (log10_prob, backoff) in ngrams.items():
            tail = f"\t{backoff!r}" if n < len(tables) else ""
            yield f"{log10_prob!r}\t{' '.join(ngram)}{tail}\n"
    yield "\n\\end\\\n"


# Texts for the log10 probability of an impossible event.
_IMPOSSIBLE = ("-inf", "-infinity")

# By the first bytes of the file; its name does not matter.
_DECOMPRESS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(memlimit=_MAX_XZ_BYTES),
}
# Compression reduces language models to a fifth or a tenth. A file with a much higher ratio is made to fill the memory.
_MAX_GROWTH = 100
_MAX_XZ_BYTES = 2**28  # of memory; xz -9 needs a quarter of it
_NOT_ARPA = {
    b"mmap lm ": "a binary file of KenLM; give the ARPA file that it was built from",
    b"blmt": "a binary file of IRSTLM; write an ARPA file with compile-lm --text=yes",
    b"iARPA": "an iARPA file of IRSTLM, with other numbers; write an ARPA file with compile-lm --text=yes",
}


def read_arpa_text(path: str | Path) -> str:
    """The text of an ARPA file, without a check. The file may be compressed by gzip, bzip2 or xz.

    Raises DataError if the file cannot be read, or is a language model in another format.
    """
    try:
        with open_text(path) as stream:
            content = stream.read()
        for beginning, decompress in _DECOMPRESS.items():
            if content.startswith(beginning):
                content = _decompressed(content, decompress, path)
                break
        for beginning, what in _NOT_ARPA.items():
            if content.lstrip().startswith(beginning):
                raise DataError(f"{location(path)}{what}")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{location(path)}not UTF-8 ({error.reason} at byte {error.start})") from None
    except (EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{location(path)}cannot be decompressed ({error}); the file is cut short or damaged") from None
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{location(path)}cannot be read: {reason}; made by stage 2 (asrkit train-lm)") from None


def _decompressed(content: bytes, decompress: Callable[[], _Decompressor], path: str | Path) -> bytes:
    """The content of one or more successive compressed streams. Raises DataError if it is too large."""
    limit, parts = _MAX_GROWTH * len(content) + 2**20, []
    size = 0
    while content:
        stream = decompress()
        parts.append(stream.decompress(content, limit + 1 - size))
        size += len(parts[-1])
        if size > limit:
            raise DataError(
                f"{location(path)}grows to more than {_MAX_GROWTH} times its size; decompress it yourself if it is "
                "a language model"
            )
        if not stream.eof:
            raise EOFError("it ends before its end is marked")
        content = stream.unused_data.lstrip(b"\0")  # padding
    return b"".join(parts)


def parse_arpa(text: str, path: str | Path) -> list[dict[Ngram, tuple[float, float]]]:
    """The tables of n-grams in the text of an ARPA file, one for each order. `path` names the file in messages.

    <UNK> becomes <unk>. A missing back-off weight is 0. The log10 probability -inf becomes NEVER, because decoding
    needs finite numbers.

    Raises DataError if a line is malformed, a count is wrong or the context of an n-gram is missing. The message has a
    line for each fault.
    """
    parser = _Parser(path)
    parser.parse(text)
    parser.findings.raise_errors()
    return parser.tables


class _Parser:
    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.findings = Findings()
        self.tables: list[dict[Ngram, tuple[float, float]]] = []
        self._declared: dict[int, int] = {}  # order -> number of n-grams
        self._is_last = False  # whether the section has the highest order

    def parse(self, text: str) -> None:
        lines = ((number, line.strip(" \t\r")) for number, line in enumerate(text.split("\n"), 1))
        for _, line in lines:
            if line == "\\data\\":  # all text before it is a comment
                break
        is_whole = self._parse_lines(lines)
        if not is_whole and not self.findings.errors:
            self.findings.error(
                "\\end\\ is missing after \\data\\ and the n-grams; the file is cut short or not ARPA", self.path
            )
        if not self.findings.errors:
            self._check_counts()

    def _parse_lines(self, lines: Iterator[tuple[int, str]]) -> bool:
        """Parse the lines after \\data\\. Returns whether \\end\\ was among them."""
        for number, line in lines:
            if not line:
                continue
            if line == "\\end\\":
                return True
            if line[0] == "\\" and (match := re.fullmatch(r"\\([0-9]+)-grams:", line)):
                self.tables.append({})
                order = parse_whole(match[1])
                self._is_last = order == max(self._declared, default=0)
                if order != len(self.tables) or order not in self._declared:
                    self.findings.error(
                        f"section {line} is out of order or not declared under \\data\\", self.path, number
                    )
                    return False
            elif not self.tables:
                self._parse_count(line, number)
            else:
                self._parse_entry(line, number)
        return False

    def _parse_count(self, line: str, number: int) -> None:
        match = re.fullmatch(r"ngram[ \t]+([0-9]+)[ \t]*=[ \t]*([0-9]+)", line)
        order, count = (parse_whole(match[1], low=1), parse_whole(match[2])) if match else (None, None)
        if order is not None and count is not None:
            self._declared[order] = count
        else:
            self.findings.error(f"expected `ngram ORDER=COUNT`, found {line!r}", self.path, number)

    def _parse_entry(self, line: str, number: int) -> None:
        try:
            ngram, numbers = _read_entry(line, len(self.tables), self._is_last)
            self._check_ngram(ngram, line)
        except _BadEntryError as error:
            self.findings.error(str(error), self.path, number)
        else:
            self.tables[-1][ngram] = numbers

    def _check_ngram(self, ngram: Ngram, line: str) -> None:
        """Raise _BadEntryError if the n-gram is repeated or impossible, or lacks its context."""
        if ngram in self.tables[-1]:
            raise _BadEntryError(f"n-gram given twice: {' '.join(ngram)}")
        if EOS in ngram[:-1] or BOS in ngram[1:]:
            raise _BadEntryError(f"{EOS} can only end an n-gram and {BOS} only begin one, found {line!r}")
        if len(ngram) > 1:
            for part in (ngram[:-1], ngram[-1:]):
                if part not in self.tables[len(part) - 1]:
                    raise _BadEntryError(
                        f"n-gram {' '.join(ngram)}: {' '.join(part)} is not among the {len(part)}-grams"
                    )

    def _check_counts(self) -> None:
        for n in sorted(set(self._declared) | set(range(1, len(self.tables) + 1))):
            count = len(self.tables[n - 1]) if n <= len(self.tables) else 0
            if count != self._declared.get(n, 0):
                self.findings.error(f"{count} {n}-grams; \\data\\ declares {self._declared.get(n, 0)}", self.path)


class _BadEntryError(Exception):
    """A fault in the line of an n-gram."""


def _read_entry(line: str, order: int, is_last: bool) -> tuple[Ngram, tuple[float, float]]:
    """The n-gram and the numbers in a line of the section of this order."""
    fields = [field for field in line.replace("\t", " ").split(" ") if field]
    if len(fields) not in (order + 1, order + 2):
        backoff_too = "" if is_last else " and a back-off weight"
        raise _BadEntryError(f"expected a log10 probability, {order} symbols{backoff_too}, found {line!r}")
    ngram = tuple(UNK if symbol == "<UNK>" else symbol for symbol in fields[1 : order + 1])
    is_impossible = fields[0].lower() in _IMPOSSIBLE
    log10_prob = NEVER if is_impossible else parse_number(fields[0])
    backoff = parse_number(fields[order + 1]) if len(fields) == order + 2 else 0.0
    if log10_prob is None or backoff is None:
        raise _BadEntryError(f"expected finite numbers around the n-gram, found {line!r}")
    if log10_prob > 0.0:
        raise _BadEntryError(f"expected a log10 probability of at most 0, found {line!r}")
    if is_last and backoff != 0.0:
        raise _BadEntryError(f"expected no back-off weight, or 0, for an n-gram of the highest order, found {line!r}")
    return ngram, (log10_prob, backoff)
