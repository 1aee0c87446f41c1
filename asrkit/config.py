"""YAML files mapped onto frozen dataclasses: typed, every fault reported at once with file, line and a suggestion.

The declared type of a field decides how its scalar is read, not YAML's guess: `1e-3` is a number for a float
field, and `no` stays the text "no" for a string field. Repeated keys are faults.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from asrkit.errors import ConfigError, at, raise_if_any
from asrkit.io.atomic import atomic_write

T = TypeVar("T")

_UNREADABLE = object()
_TRUE, _FALSE, _NULL = {"true", "yes", "on"}, {"false", "no", "off"}, {"null", "~", "none", ""}


def load_config(path: str | Path, cls: type[T]) -> T:
    """Read a YAML file into the dataclass `cls`; fields that the file leaves out keep their defaults.

    Raises:
        ConfigError: one line per fault (unknown or repeated key, wrong type, impossible value).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{at(path)}cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{at(path)}not UTF-8 ({error.reason} at byte {error.start})") from None
    return parse_config(text, cls, str(path))


def parse_config(text: str, cls: type[T], name: str) -> T:
    """Like load_config for YAML text; `name` stands for the file in messages."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{at(name, mark.line + 1 if mark else None)}not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{at(name)}not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{at(name)}nested too deeply; expected a mapping of settings") from None
    faults: list[str] = []
    value = cls() if node is None else _read(node, cls, name, "", faults)
    raise_if_any(faults, ConfigError)
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """The dataclass as nested plain values (tuples become lists), for YAML, JSON and checkpoints."""
    return {
        field.name: to_dict(value)
        if dataclasses.is_dataclass(value := getattr(config, field.name))
        else list(value)
        if isinstance(value, tuple)
        else value
        for field in dataclasses.fields(config)
    }


def dump_config(config: Any, path: str | Path) -> None:
    """Write every field, defaults included, as YAML that load_config reads back to an equal dataclass."""
    with atomic_write(path) as stream:
        stream.write(config_text(config))


def config_text(config: Any) -> str:
    """The YAML that dump_config writes."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _read(node: yaml.Node, kind: Any, name: str, key: str, faults: list[str]) -> Any:
    """Read one YAML node as type `kind`; on a fault append to `faults` and return _UNREADABLE."""
    line = node.start_mark.line + 1
    if dataclasses.is_dataclass(kind):
        return _read_mapping(node, kind, name, key, faults)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # only `X | None` is used
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        if isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in _NULL:
            return None
        return _read(node, inner, name, key, faults)
    if origin is tuple:
        if not isinstance(node, yaml.SequenceNode):
            faults.append(f"{at(name, line)}{key}: expected a list")
            return _UNREADABLE
        values = tuple(_read(child, arguments[0], name, f"{key}[{i}]", faults) for i, child in enumerate(node.value))
        return _UNREADABLE if _UNREADABLE in values else values
    if not isinstance(node, yaml.ScalarNode):
        faults.append(f"{at(name, line)}{key}: expected {_describe(kind)}, found a {node.id}")
        return _UNREADABLE
    try:
        return _read_scalar(node.value, kind)
    except ValueError:
        hint = ""
        if origin is Literal:
            near = difflib.get_close_matches(node.value, map(str, arguments), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
        faults.append(f"{at(name, line)}{key}: expected {_describe(kind)}, found {node.value!r}{hint}")
        return _UNREADABLE


def _read_scalar(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError
    if kind is float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    if kind is int:
        return int(text.replace("_", ""))
    if typing.get_origin(kind) is Literal:
        if text in typing.get_args(kind):
            return text
        raise ValueError
    return kind(text)


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    return {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}.get(kind, str(kind))


def _read_mapping(node: yaml.Node, cls: type, name: str, prefix: str, faults: list[str]) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in _NULL:
        return cls()  # a section's name alone
    if not isinstance(node, yaml.MappingNode):
        faults.append(f"{at(name, line)}{prefix or 'the file'}: expected a mapping of settings, found a {node.id}")
        return _UNREADABLE
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            faults.append(f"{at(name, key_line)}expected the name of a setting, found a {key_node.id}")
            continue
        key = key_node.value
        dotted = f"{prefix}.{key}" if prefix else key
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            faults.append(f"{at(name, key_line)}unknown setting {dotted!r}; {hint}")
        elif key in values:
            faults.append(f"{at(name, key_line)}{dotted} is set twice; keep one")
        else:
            values[key] = _read(value_node, hints[key], name, dotted, faults)
            lines[dotted] = key_line
    try:
        # Values that could not be read are left at their defaults here, so that those of others are still checked.
        return cls(**{key: value for key, value in values.items() if value is not _UNREADABLE})
    except ConfigError as error:  # a dataclass's own check of impossible values: `section.setting ...`
        for fault in str(error).split("\n"):
            faults.append(f"{at(name, lines.get(fault.split()[0].rstrip(':'), line))}{fault}")
        return _UNREADABLE
