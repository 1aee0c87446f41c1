"""Makes dataclasses from the plain values in model files, and checks every type. Loads no torch."""

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
    """Make the dataclass `cls` from `values`: the reverse of `dataclasses.asdict`.

    Its fields are numbers, texts and dataclasses of the same kind. Types are checked here; the dataclass itself checks
    the ranges.

    Args:
        cls: the dataclass.
        values: a dictionary with a value for each field.
        name: the name of the dataclass in messages.
        younger: fields that may be missing, because older files do not have them. They get their defaults. A field
            of a dataclass within is named SECTION.FIELD.

    Raises ConfigError with a line for each fault: an unknown or missing field, or a value of the wrong type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{name}: expected values by their names, found {shown(values)}")
    hints = typing.get_type_hints(cls)
    sections = {key: hint for key, hint in hints.items() if _is_section(hint) and key in values}
    inner = {key: [each.removeprefix(f"{key}.") for each in younger if each.startswith(f"{key}.")] for key in sections}
    values = values | {
        key: from_plain(hint, values[key], f"{name}.{key}", inner[key]) for key, hint in sections.items()
    }
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
    """Whether `value` has the type `hint`: bool, int, float (finite), str, None, a Literal of texts, or X | Y."""
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
    """The value for a message: the first 60 characters of its `repr`, on one line."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _describe(hint: Any) -> str:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(arguments)
    return " or ".join(map(_describe, arguments)) if arguments else _NAMES[hint]
