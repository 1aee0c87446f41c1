"""The exceptions that asrkit raises on purpose.

Each message is one line per fault: where it is, what was found, what was expected and the remedy. The
command line prints these lines without a traceback and exits with 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class AsrkitError(Exception):
    """Base of all expected errors. `str()` gives one line per fault."""


class DataError(AsrkitError):
    """A fault in a data directory, corpus, table or archive."""


class ConfigError(AsrkitError):
    """A fault in a configuration file or an option's value."""


class AudioError(AsrkitError):
    """An audio file that cannot be decoded, or is not what its header says."""


class ModelError(AsrkitError):
    """A model, checkpoint or experiment directory that cannot be used."""


class InUseError(AsrkitError):
    """What is to be written is being written by another run."""


def location(file: str | Path, line: int | None = None) -> str:
    """Prefix of a message: `file:` or `file:line:` with a trailing space."""
    return f"{file}: " if line is None else f"{file}:{line}: "


def raise_if_any(faults: Sequence[str], error: type[AsrkitError] = DataError) -> None:
    """Raise one `error` holding every fault, a line each; do nothing when there is none."""
    if faults:
        raise error("\n".join(faults))
