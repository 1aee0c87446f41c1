"""Reads and writes JSON. No other module does."""

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
    """The JSON text of a value that has JSON's types, without a newline at its end.

    The text can always be encoded as UTF-8. Unprintable characters are escaped: a byte of a file's name that is not
    UTF-8 (U+DC80 to U+DCFF after `os.fsdecode`) becomes `\\udcff`. Reading gives the same string back, so `os.fsencode`
    gives the same bytes. JSON has no NaN and no infinity. Use None, which becomes null, for an undefined figure.

    Raises ValueError if the value contains NaN or infinity.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)  # they stand only inside strings


def write_json(path: str | Path, value: object) -> None:
    """Write a value that has JSON's types to the file `path`, atomically.

    Raises ValueError as `json_text` (no file is written then), and OSError as `atomic_write`.
    """
    text = json_text(value, indent=1)
    with atomic_write(path) as stream:
        stream.write(text + "\n")


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError if the text is not JSON or nested too deeply, if a number is not finite, or if a whole number
    needs more than 64 bits.
    """
    try:
        return json.loads(text, parse_int=_whole, parse_float=_number, parse_constant=_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. Raises OSError if the file cannot be read, and ValueError as `parse_json`."""
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
