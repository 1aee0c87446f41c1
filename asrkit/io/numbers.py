"""Numbers of text: the only place that makes numbers of what a file, an option or a name says.

Python's int() and float() take more than people write for numbers (`1_000`, digits of other alphabets, `nan`), and
raise errors of several kinds for long ones. Here a number is of ASCII digits, is finite and lies in a range that its
caller states; all else is None, about which the caller says where it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MAX_WHOLE = 2**63 - 1  # what arrays of 64 bits hold

_WHOLE = re.compile(r"[-+]?0{0,300}[0-9]{1,19}")
_IN_NUMBERS = re.compile(r"[0-9+\-.eE]*")
_DECIMAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


def parse_whole(text: str, low: int = 0, high: int = MAX_WHOLE) -> int | None:
    """A whole number from `low` to `high`, perhaps with a sign; None for anything else."""
    if not _WHOLE.fullmatch(text):
        return None
    value = int(text)
    return value if low <= value <= high else None


def is_number(text: str) -> bool:
    """Whether a text is a decimal number, perhaps with an exponent; it may be too large for parse_number."""
    return _DECIMAL.fullmatch(text) is not None


def parse_number(text: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """A decimal number, perhaps with an exponent, that is finite and from `low` to `high`; None for anything else."""
    if not is_number(text):
        return None
    value = float(text)
    return value if math.isfinite(value) and low <= value <= high else None


def parse_numbers(texts: Sequence[str], low: float = -math.inf, high: float = math.inf) -> list[float] | None:
    """As parse_number, many at once and quicker; None unless all are such numbers."""
    if not _IN_NUMBERS.fullmatch("".join(texts)):
        return None
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    # Infinite when too long; min and max are those of all, as no text of these characters is NaN.
    return values if not values or (low <= min(values) and max(values) <= high and math.isfinite(sum(values))) else None
