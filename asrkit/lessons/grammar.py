"""Reber's grammar (Reber 1967), and the embedded grammar (Cleeremans, Servan-Schreiber and McClelland 1989)."""

from __future__ import annotations

import zlib

import numpy as np

SYMBOLS = "BTSXPVE"

# The states of the grammar: possible next symbols, and the states to which they lead. Both choices are equally likely.
NEXT: tuple[dict[str, int], ...] = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
    {},
)
_END = len(NEXT) - 1


def draw_string(rng: np.random.Generator) -> str:
    """Draw a string of Reber's grammar, such as BTSSXXTVVE."""
    state, string = 0, ""
    while state != _END:
        ways = list(NEXT[state].items())
        symbol, state = ways[rng.integers(len(ways))]
        string += symbol
    return string


def embed(inner: str, outer: str) -> str:
    """A string of the embedded grammar.

    The second symbol, T or P, returns as the last but one, after a string of any length.
    """
    return f"B{outer}{inner}{outer}E"


def is_legal(string: str) -> bool:
    """Whether a string belongs to Reber's grammar."""
    state: int | None = 0
    for symbol in string:
        state = None if state is None else NEXT[state].get(symbol)
    return state == _END


def is_held_out(inner: str) -> bool:
    """Whether a string is reserved for the test: one in five of all strings of the grammar, always the same ones."""
    return zlib.crc32(inner.encode()) % 5 == 0


def draw_embedded(rng: np.random.Generator, held_out: bool) -> str:
    """Draw a string of the embedded grammar whose inner string is held out, or is not."""
    while is_held_out(inner := draw_string(rng)) != held_out:
        pass
    return embed(inner, "TP"[rng.integers(2)])


def with_other_end(string: str) -> str:
    """An embedded string with the wrong last symbol but one. It is illegal, though each part of it is legal."""
    return string[:-2] + ("P" if string[1] == "T" else "T") + "E"


def one_hot(strings: list[str]) -> np.ndarray:
    """Strings as (N, T, 7): 1 for the symbol at each place; 0 after the end of a string."""
    coded = np.zeros((len(strings), max(map(len, strings)), len(SYMBOLS)))
    for row, string in enumerate(strings):
        coded[row, np.arange(len(string)), [SYMBOLS.index(symbol) for symbol in string]] = 1
    return coded
