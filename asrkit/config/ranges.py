"""Ranges of settings, stated in their types: `max_lr: Positive = 4e-3`.

A dataclass of settings calls `range_faults` when it is made. Loads no torch.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """A condition on a number or a text.

    Attributes:
        expected: the condition in words, for messages.
        holds: returns whether a value meets the condition.
    """

    expected: str
    holds: Callable[[Any], bool]


def at_most(limit: float) -> Range:
    """Numbers up to `limit`, which is included."""
    return Range(f"must be at most {limit}", lambda value: value <= limit)


def between(low: float, high: float) -> Range:
    """Numbers from `low` to `high`. Both ends are included."""
    return Range(f"must be from {low} to {high}", lambda value: low <= value <= high)


_AT_LEAST_1 = Range("must be at least 1", lambda value: value >= 1)
_NOT_NEGATIVE = Range("must not be negative", lambda value: value >= 0)
_BELOW_1 = Range("must be in [0, 1)", lambda value: 0 <= value < 1)

PositiveInt = Annotated[int, _AT_LEAST_1]
NonNegativeInt = Annotated[int, _NOT_NEGATIVE]
Positive = Annotated[float, Range("must be above 0", lambda value: value > 0)]
NonNegative = Annotated[float, _NOT_NEGATIVE]
BelowOne = Annotated[float, _BELOW_1]  # and at least 0
InsideUnit = Annotated[float, Range("must be between 0 and 1", lambda value: 0 < value < 1)]
Share = Annotated[float, between(0, 1)]


def range_faults(config: Any, section: str) -> list[str]:
    """The values of the dataclass `config` that lie outside the ranges of their types: one line for each.

    `section` names the dataclass in the messages. A field that is None is never a fault.
    """
    faults = []
    cls: type = type(config)
    for name, ranges in _ranges_of_fields(cls).items():
        value = getattr(config, name)
        faults += [
            f"{section}.{name} {limit.expected}, found {value}"
            for limit in ranges
            if value is not None and not limit.holds(value)
        ]
    return faults


@functools.cache
def _ranges_of_fields(cls: type) -> dict[str, list[Range]]:
    """The ranges in the types of a dataclass's fields, including those in `X | None`."""
    ranges: dict[str, list[Range]] = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        for part in (hint, *typing.get_args(hint)):
            extras = getattr(part, "__metadata__", ())
            ranges.setdefault(name, []).extend(extra for extra in extras if isinstance(extra, Range))
    return ranges
