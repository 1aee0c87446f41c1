"""Stamps: what a finished step was made from, so that running it again can be skipped.

A step writes its stamp last. `is_current` compares the stamp with what the step would be made from now;
a changed option or input file, a missing output or a run that was killed all make it false.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from asrkit.io.atomic import atomic_write


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_signature(path: str | Path) -> str:
    """Size and modification time of a file too large to read for a digest; "absent" when missing."""
    try:
        status = Path(path).stat()
    except OSError:
        return "absent"
    return f"{status.st_size}:{status.st_mtime_ns}"


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of JSON-like inputs, independent of the order of keys."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def is_current(stamp: str | Path, inputs: Mapping[str, Any], outputs: Iterable[str | Path] = ()) -> bool:
    """Whether the step that wrote `stamp` was made from these inputs and its outputs still exist."""
    try:
        recorded = Path(stamp).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return False
    return recorded == fingerprint(inputs) and all(Path(output).exists() for output in outputs)


def write_stamp(stamp: str | Path, inputs: Mapping[str, Any]) -> None:
    """Record that a step is done. Call it after every output is in place."""
    with atomic_write(stamp) as stream:
        stream.write(fingerprint(inputs) + "\n")
