"""Converts texts to numbers. All numbers in files, options and names are read here.

Python's `int()` and `float()` accept `1_000`, digits of other alphabets and `nan`, and they raise different errors for
long numbers. Here a number has ASCII digits, is finite and lies in a range that the caller gives. Every other text
gives None. The caller then reports the fault with its place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MAX_WHOLE = 2**63 - 1  # the largest value of int64

_WHOLE = re.compile(r"[-+]?0{0,300}[0-9]{1,19}")
_IN_NUMBERS = re.compile(r"[0-9+\-.eE]*")
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def parse_whole(text: str, low: int = 0, high: int = MAX_WHOLE) -> int | None:
    """The whole number that `text` is, from `low` to `high`, with an optional sign; None for any other text."""
    if not _WHOLE.fullmatch(text):
        return None
    value = int(text)
    return value if low <= value <= high else None


def is_number(text: str) -> bool:
    """Whether `text` is a decimal number, with an optional exponent. It may be too large for `parse_number`."""
    return _DECIMAL.fullmatch(text) is not None


def parse_number(text: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """The finite decimal number that `text` is, from `low` to `high`, with an optional exponent; otherwise None."""
    if not is_number(text):
        return None
    value = float(text)
    return value if math.isfinite(value) and low <= value <= high else None


def parse_numbers(texts: Sequence[str], low: float = -math.inf, high: float = math.inf) -> list[float] | None:
    """Like `parse_number` for many texts, but faster. None if one of them is not such a number."""
    if not _IN_NUMBERS.fullmatch("".join(texts)):
        return None
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    # float() gives infinity for too large a number, and never NaN for these characters, so min and max are reliable.
    return values if not values or (low <= min(values) and max(values) <= high and math.isfinite(sum(values))) else None
