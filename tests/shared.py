"""Corpora and tables that lie beside the project, not in it: below $ASRKIT_SHARED, or else ../shared."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("ASRKIT_SHARED") or Path(__file__).parents[2] / "shared")


def shared_or_skip(path: str) -> Path:
    """The file or directory `path` below SHARED; skips the test where it is missing."""
    if not (SHARED / path).exists():
        pytest.skip(f"{SHARED / path}: not found; ASRKIT_SHARED names the directory that it is looked for in")
    return SHARED / path
