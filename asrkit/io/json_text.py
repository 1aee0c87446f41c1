"""Values as JSON text: the only place that writes and reads JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from asrkit.io.atomic import atomic_write
from asrkit.io.files import read_bytes
from asrkit.io.numbers import MAX_WHOLE, parse_number, parse_whole

_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def json_text(value: object, indent: int | None = None) -> str:
    """A value of JSON's own types as text, without a newline at its end.

    It is UTF-8 for every value: what cannot stand in a line, such as a byte of a file's name that is no UTF-8
    (os.fsdecode: U+DC80 to U+DCFF), is written as `\\udcff`. Reading gives the same text back, and os.fsencode of a
    name the same bytes. JSON has no NaN and no infinity. A figure that is not defined is None, which becomes null.

    Raises ValueError for NaN and infinity.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)  # they can only be in strings


def write_json(path: str | Path, value: object) -> None:
    """Write a value of JSON's own types, as atomic_write does. Raises ValueError as json_text, and writes nothing."""
    text = json_text(value, indent=1)
    with atomic_write(path) as stream:
        stream.write(text + "\n")


def parse_json(text: str) -> Any:
    """The value of a JSON text: numbers are finite, whole ones have 64 bits. Raises ValueError for all else."""
    try:
        return json.loads(text, parse_int=_whole, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: str | Path) -> Any:
    """The value in a file. Raises OSError when it cannot be read, ValueError when it holds no JSON."""
    return parse_json(read_bytes(path).decode())


def _whole(text: str) -> int:
    value = parse_whole(text, low=-MAX_WHOLE)
    if value is None:
        raise ValueError(f"a whole number of more than 64 bits ({text[:20]}...)")
    return value


def _number(text: str) -> float:
    value = parse_number(text)
    if value is None:
        raise ValueError(f"expected a finite number, found {text[:20]}")
    return value
