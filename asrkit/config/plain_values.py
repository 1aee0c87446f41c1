"""Dataclasses from the plain values that model files keep of them, with every type checked. Loads no torch."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Collection
from typing import Any, Literal, TypeGuard, TypeVar

from asrkit.errors import ConfigError, raise_if_any

T = TypeVar("T")

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    types.NoneType: "nothing",
}
_MOST_SHOWN = 60  # characters of a value


def from_plain(cls: type[T], values: object, name: str, younger: Collection[str] = ()) -> T:
    """The dataclass of numbers, texts and such dataclasses that `dataclasses.asdict` made `values` of, named `name`.

    Every field must be there and of its declared type; ranges are the dataclass's own affair. A file that was written
    before there were the `younger` ones lacks them: they have their defaults then.

    Raises ConfigError with a line for each fault.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected values by their names, found {shown(values)}")
    hints = typing.get_type_hints(cls)
    sections = {key: hint for key, hint in hints.items() if _is_section(hint) and key in values}
    values = values | {key: from_plain(hint, values[key], f"{name}.{key}") for key, hint in sections.items()}
    faults = [f"{name}: unknown setting {shown(key)}" for key in values if key not in hints]
    faults += [f"{name}.{key}: missing" for key in hints if key not in values and key not in younger]
    faults += [
        f"{name}.{key}: expected {_describe(hint)}, found {shown(values[key])}"
        for key, hint in hints.items()
        if key in values and not is_of_type(values[key], hint)
    ]
    raise_if_any(faults, ConfigError)
    return cls(**values)


def _is_section(hint: Any) -> TypeGuard[type[Any]]:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def is_of_type(value: Any, hint: Any) -> bool:
    """Whether a value has a type: a finite number, a text, None, one of a Literal's values, X | Y."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str) and value in arguments
    if arguments:
        return any(is_of_type(value, argument) for argument in arguments)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    return isinstance(value, hint)


def shown(value: object) -> str:
    """A value in a message: the beginning of its text, on one line."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _describe(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(arguments)
    return " or ".join(map(_describe, arguments)) if arguments else _NAMES[hint]
