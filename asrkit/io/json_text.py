"""Values as JSON text: the only place that writes JSON."""

from __future__ import annotations

import json
from pathlib import Path

from asrkit.io.atomic import atomic_write


def json_text(value: object, indent: int | None = None) -> str:
    """A value of JSON's own types as text, without a newline at its end.

    JSON has no NaN and no infinity. A figure that is not defined is None, which becomes null.

    Raises ValueError for NaN and infinity.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def write_json(path: str | Path, value: object) -> None:
    """Write a value of JSON's own types, as atomic_write does. Raises ValueError as json_text, and writes nothing."""
    text = json_text(value, indent=1)
    with atomic_write(path) as stream:
        stream.write(text + "\n")
