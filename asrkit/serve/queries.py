"""The parameters in URLs. One table per operation serves to read and to document them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from asrkit.audio.inputs import Input
from asrkit.audio.read import Channel
from asrkit.errors import ConfigError, printable
from asrkit.formats.results import FORMATS
from asrkit.io.numbers import parse_whole
from asrkit.io.scp import split_fields

VIEW = "view"  # the format for the page
_MAX_NAME = 255
_MAX_BEST = 100
_MAX_CHANNEL = 255
Value = TypeVar("Value")
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a URL.

    Attributes:
        parse: converts its text to a value; None if the text is not valid.
        expected: valid texts, in words.
        schema: its OpenAPI schema.
        default: its value if it is missing.
    """

    name: str
    description: str
    parse: Callable[[str], Any]
    expected: str
    schema: Mapping[str, Any]
    default: Any = None
    is_required: bool = False


def _text(text: str) -> str | None:
    return text if 0 < len(text) <= _MAX_NAME else None


def _channel(text: str) -> Channel | None:
    return "mix" if text == "mix" else parse_whole(text, high=_MAX_CHANNEL)


_MODEL = Parameter("model", "One of GET /models; without it the first.", _text, "a name", {"type": "string"})
_NAME = Parameter(
    "name",
    "The recording's name in the result.",
    _text,
    f"1 to {_MAX_NAME} characters",
    {"type": "string", "maxLength": _MAX_NAME},
    default="audio",
)
_FORMAT = Parameter(
    "format",
    "What to answer, as of `asrkit transcribe --format`; view is what the page shows: all formats, with posteriors.",
    lambda text: text if text in (*FORMATS, VIEW) else None,
    f"one of {', '.join((*FORMATS, VIEW))}",
    {"type": "string", "enum": [*FORMATS, VIEW]},
    default="json",
)
_CHANNEL = Parameter(
    "channel",
    "Of several channels: take the one of that number, from 0, or average them.",
    _channel,
    f"mix, or a number from 0 to {_MAX_CHANNEL}",
    {"oneOf": [{"const": "mix"}, {"type": "integer", "minimum": 0, "maximum": _MAX_CHANNEL}]},
    default="error",
)
_IPA = Parameter(
    "ipa",
    "Write phones in the alphabet of the IPA.",
    _BOOLEANS.get,
    "true or false",
    {"type": "boolean"},
    default=False,
)
TRANSCRIBE = (
    _MODEL,
    _NAME,
    _FORMAT,
    _CHANNEL,
    _IPA,
    Parameter(
        "nbest",
        "How many alternatives to list, in json.",
        lambda text: parse_whole(text, high=_MAX_BEST),
        f"a whole number up to {_MAX_BEST}",
        {"type": "integer", "minimum": 0, "maximum": _MAX_BEST},
        default=0,
    ),
)
ALIGN = (
    _MODEL,
    _NAME,
    _FORMAT,
    _CHANNEL,
    _IPA,
    Parameter(
        "phones",
        "What is said, in the model's symbols, with blanks between them.",
        lambda text: tuple(split_fields(text)) or None,
        "phones with blanks between them",
        {"type": "string"},
        is_required=True,
    ),
    Parameter(
        "optional_silence",
        "A phone of the model that may stand between any others.",
        _text,
        "a phone",
        {"type": "string"},
    ),
)


def read_query(items: Iterable[tuple[str, str]], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Read the value of each parameter.

    Raises:
        ConfigError: a parameter is unknown, invalid, missing or given twice.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    for name, text in items:
        if name not in by_name:
            raise ConfigError(f"{_shown(name)}: no such parameter; expected {', '.join(by_name)}")
        if name in values:
            raise ConfigError(f"{name}: given twice")
        values[name] = by_name[name].parse(text)
        if values[name] is None:
            raise ConfigError(f"{name}: expected {by_name[name].expected}, found '{_shown(text)}'")
    for parameter in parameters:
        if parameter.is_required and parameter.name not in values:
            raise ConfigError(f"{parameter.name}: missing; expected {parameter.expected}")
        values.setdefault(parameter.name, parameter.default)
    return values


def recording(name: str) -> Input:
    """The recording of that name. In its key `_` replaces spaces, which CTM does not allow."""
    return Input(name, "_".join(PurePosixPath(name).stem.split()) or "audio")


def _shown(text: str) -> str:
    return printable(text if len(text) <= 60 else f"{text[:60]}...")
