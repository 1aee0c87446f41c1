"""Times as text files have them."""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def is_number(field: str) -> bool:
    """Whether a field is a decimal number, perhaps with an exponent."""
    return _NUMBER.fullmatch(field) is not None


def parse_number(field: str) -> float | None:
    """A decimal number that is finite, else None."""
    value = float(field) if is_number(field) else math.nan
    return value if math.isfinite(value) else None


def parse_time(field: str) -> float | None:
    """A time that is finite and not negative, else None."""
    value = parse_number(field)
    return None if value is None or value < 0 else value


def format_seconds(seconds: float) -> str:
    """Microseconds, which give a sample's index back at any rate in use; milliseconds where they suffice."""
    text = f"{seconds:.6f}"
    return text[:-3] if text.endswith("000") else text


def to_micros(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1e6)
