"""Times as text files have them."""

from __future__ import annotations

from asrkit.io.numbers import parse_number

# Thirty years. Up to here whole microseconds are exact in a double.
MAX_SECONDS = 1e9


def parse_seconds(field: str, per_second: float = 1.0) -> float | None:
    """A time in units of which there are so many a second, perhaps negative; None when it is none that can be."""
    limit = MAX_SECONDS * per_second
    return parse_number(field, -limit, limit)


def parse_time(field: str) -> float | None:
    """A time in seconds that is not negative, else None."""
    return parse_number(field, 0.0, MAX_SECONDS)


def format_seconds(seconds: float) -> str:
    """Microseconds, which give a sample's index back at any rate in use; milliseconds where they suffice."""
    text = f"{seconds:.6f}"
    return text[:-3] if text.endswith("000") else text


def to_micros(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1e6)
