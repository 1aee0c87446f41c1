"""Reads YAML files into frozen dataclasses. One error reports all faults, each with file, line and a suggestion.

The declared type of a field decides how its value is read. YAML's own rules do not matter: `1e-3` is a number for a
float field, and `no` stays the text "no" for a string field. Repeated keys are faults. The option `--set` replaces
single settings of the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from asrkit.errors import ConfigError, DataError, location
from asrkit.findings import Findings
from asrkit.io.atomic import atomic_write
from asrkit.io.numbers import MAX_WHOLE, parse_number, parse_whole
from asrkit.io.text import open_text

T = TypeVar("T")

_MAX_BYTES = 2**18  # of a file: YAML is parsed in Python, which takes some seconds per megabyte
_MAX_DEPTH = 20  # of nested brackets, and of nested sections
_UNREADABLE = object()
_OPTION = "--set "  # the names of an override's marks begin with it
_TRUE, _FALSE, _NULL = {"true", "yes", "on"}, {"false", "no", "off"}, {"null", "~", "none", ""}


def load_config(path: str | Path | None, cls: type[T], overrides: Sequence[str] = ()) -> T:
    """Read the YAML file `path` into the dataclass `cls`. Fields that the file leaves out keep their defaults.

    If `path` is None, all fields keep their defaults. Each of `overrides` is a text `SECTION.SETTING=VALUE`, with the
    value in YAML. It replaces the setting of the file. If two overrides name the same setting, the later one holds.

    Raises ConfigError if the file cannot be read, a key is unknown or repeated, or a value has the wrong type or is
    impossible. The message has one line per fault, with file and line, or with the override.
    """
    if path is None:
        return parse_config("", cls, "the defaults", overrides)
    try:
        with open_text(path) as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(f"{location(path)}more than {_MAX_BYTES} bytes; expected the few settings of an experiment")
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"{location(path)}cannot be read: {error.strerror}") from None
    except DataError as error:
        raise ConfigError(str(error)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{location(path)}not UTF-8 ({error.reason} at byte {error.start})") from None
    return parse_config(text, cls, str(path), overrides)


def parse_config(text: str, cls: type[T], name: str, overrides: Sequence[str] = ()) -> T:
    """Read YAML text as `load_config` reads a file. `name` is the name of the file in messages.

    Raises ConfigError as `load_config`.
    """
    node = _compose(text, name)
    findings = Findings()
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not all(key.split(".")) or key.count(".") > _MAX_DEPTH:
            findings.error(f"{_OPTION}{override}: expected SECTION.SETTING=VALUE, such as training.seed=2")
            continue
        node = _put(node, key.split("."), _compose(value, _OPTION + override))
    findings.raise_errors(ConfigError)
    config: T = _Reader(findings).read_mapping(node, cls, "")
    findings.raise_errors(ConfigError)
    return config


class _Loader(yaml.SafeLoader):
    """Refuses deeply nested brackets: the time that YAML needs grows with the square of their number."""

    def fetch_flow_collection_start(self, token_class: Any) -> None:
        if self.flow_level >= _MAX_DEPTH:
            raise RecursionError
        super().fetch_flow_collection_start(token_class)


def _compose(text: str, name: str) -> yaml.Node:
    """The root of the YAML nodes of `text`; an empty scalar if the text is empty. Their marks have the name `name`."""
    try:
        loader = _Loader(text)
        loader.name = name
        return loader.get_single_node() or yaml.ScalarNode("", "", loader.get_mark())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{_location(mark) if mark else location(name)}not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{location(name)}not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{location(name)}nested too deeply; expected a mapping of settings") from None


def _put(node: yaml.Node, keys: Sequence[str], value: yaml.Node) -> yaml.Node:
    """Put `value` into `node` at the path `keys`, one key per level; returns the node. Missing mappings are made."""
    if not keys:
        return value
    if _is_null(node):
        node = yaml.MappingNode("", [], value.start_mark)
    if not isinstance(node, yaml.MappingNode):
        where = _location(node.start_mark).rstrip(": ")
        raise ConfigError(f"{_location(value.start_mark)}no setting {keys[0]!r}: {where} holds no section of settings")
    found = [index for index, (key, _) in enumerate(node.value) if key.value == keys[0]]
    below = node.value[found[0]][1] if found else yaml.ScalarNode("", "")
    pair = (yaml.ScalarNode("", keys[0], value.start_mark), _put(below, keys[1:], value))
    place = found[0] if found else len(node.value)
    node.value[place : place + 1] = [pair]
    return node


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lower() in _NULL


def _location(mark: yaml.Mark) -> str:
    """Prefix of a message about a node: its file and line, or its override."""
    return location(mark.name) if mark.name.startswith(_OPTION) else location(mark.name, mark.line + 1)


def to_dict(config: Any) -> dict[str, Any]:
    """The dataclass `config` as nested dictionaries of plain values, for YAML, JSON and checkpoints.

    Tuples become lists.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        values[field.name] = value
    return values


def dump_config(config: Any, path: str | Path) -> None:
    """Write all fields of `config`, with the defaults, to the YAML file `path`. `load_config` reads an equal dataclass.

    Raises OSError if the file cannot be written.
    """
    with atomic_write(path) as stream:
        stream.write(config_text(config))


def config_text(config: Any) -> str:
    """The YAML text that `dump_config` writes."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def _read_scalar(text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise ValueError
    if kind is float:
        return _known(parse_number(text.replace("_", "")))
    if kind is int:
        return _known(parse_whole(text.replace("_", ""), low=-MAX_WHOLE))
    if typing.get_origin(kind) is Literal:
        if text in typing.get_args(kind):
            return text
        raise ValueError
    return kind(text)


def _known(value: T | None) -> T:
    if value is None:
        raise ValueError
    return value


def _describe(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    return {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}.get(kind, str(kind))


class _Reader:
    """Converts YAML nodes to types. It adds faults to `findings`, and returns _UNREADABLE for a faulty node.

    `marks` maps the dotted name of a setting to its place.
    """

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.marks: dict[str, yaml.Mark] = {}

    def read_mapping(self, node: yaml.Node, cls: Any, prefix: str) -> Any:
        """Convert a node to the dataclass `cls`. `prefix` is its dotted name, which is empty for the whole file."""
        if _is_null(node):
            return cls()  # the section has a name and no settings
        if not isinstance(node, yaml.MappingNode):
            message = f"{prefix or 'the file'}: expected a mapping of settings, found a {_id(node)}"
            return self._unreadable(node.start_mark, message)
        hints = typing.get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls)]
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                self._unreadable(mark, f"expected the name of a setting, found a {_id(key_node)}")
                continue
            key = key_node.value
            dotted = f"{prefix}.{key}" if prefix else key
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
                self._unreadable(mark, f"unknown setting {dotted!r}; {hint}")
            elif key in values:
                self._unreadable(mark, f"{dotted} is set twice; keep one")
            else:
                kind = hints[key]
                read = self.read_mapping if dataclasses.is_dataclass(kind) else self._read_value
                values[key] = read(value_node, kind, dotted)
                self.marks[dotted] = mark
        try:
            # Unreadable values are replaced by their defaults, so that the dataclass still checks the others.
            return cls(**{key: value for key, value in values.items() if value is not _UNREADABLE})
        except ConfigError as error:  # from the dataclass's own checks: `section.setting ...`
            for fault in str(error).split("\n"):
                self._unreadable(self.marks.get(fault.split()[0].rstrip(":"), node.start_mark), fault)
            return _UNREADABLE

    def _read_value(self, node: yaml.Node, kind: Any, key: str) -> Any:
        """Convert a node to the type `kind`: a number, a text or a list. `key` is its dotted name."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin in (types.UnionType, typing.Union):  # only `X | None` is used
            inner = next(argument for argument in arguments if argument is not types.NoneType)
            return None if _is_null(node) else self._read_value(node, inner, key)
        if origin is tuple:
            if not isinstance(node, yaml.SequenceNode):
                return self._unreadable(node.start_mark, f"{key}: expected a list")
            values = tuple(self._read_value(child, arguments[0], f"{key}[{i}]") for i, child in enumerate(node.value))
            return _UNREADABLE if _UNREADABLE in values else values
        if not isinstance(node, yaml.ScalarNode):
            return self._unreadable(node.start_mark, f"{key}: expected {_describe(kind)}, found a {_id(node)}")
        try:
            return _read_scalar(node.value, kind)
        except ValueError:
            hint = ""
            if origin is Literal:
                near = difflib.get_close_matches(node.value, map(str, arguments), 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
            message = f"{key}: expected {_describe(kind)}, found {node.value!r}{hint}"
            return self._unreadable(node.start_mark, message)

    def _unreadable(self, mark: yaml.Mark, message: str) -> object:
        self.findings.error(f"{_location(mark)}{message}")
        return _UNREADABLE


def _id(node: yaml.Node) -> str:
    """YAML's name for the kind of a node: scalar, sequence or mapping."""
    return type(node).__name__.removesuffix("Node").lower()
