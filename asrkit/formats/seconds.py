"""Reads and writes times in text files."""

from __future__ import annotations

from asrkit.io.numbers import parse_number

# In seconds: thirty years. Up to this value, whole microseconds are exact in float64.
MAX_SECONDS = 1e9


def parse_seconds(field: str, per_second: float = 1.0) -> float | None:
    """The time in a field, in units of which a second has `per_second`. It may be negative. None if not a time."""
    limit = MAX_SECONDS * per_second
    return parse_number(field, -limit, limit)


def parse_time(field: str) -> float | None:
    """The time in a field, in seconds; None if it is negative or not a time."""
    return parse_number(field, 0.0, MAX_SECONDS)


def format_seconds(seconds: float) -> str:
    """A time as text, in seconds with six decimals, or with three if these are enough.

    Microseconds are exact enough to recover the index of a sample at any usual sampling rate.
    """
    text = f"{seconds:.6f}"
    return text[:-3] if text.endswith("000") else text


def to_micros(seconds: float) -> int:
    """A time in whole microseconds."""
    return round(seconds * 1e6)
