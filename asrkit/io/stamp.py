"""Stamps: files that record the inputs and outputs of a finished step, so that an unnecessary repetition is skipped.

A step removes its stamp before it writes anything, and writes the stamp last. A stamp has a fingerprint of the inputs
and a list of the outputs, each with its size and SHA-256. Only files that the process itself wrote are listed
(`recording`). So a file that another process put in their place is noticed.

An output is right if it has the recorded content, wherever it is now. Inputs count by their content, too. No path and
no time is recorded, so a tree may be copied and moved. Files are read to check them; io/notes.py avoids reading
unchanged files again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from asrkit.errors import AsrkitError, DataError, location
from asrkit.io.atomic import Written, atomic_write, not_recording, recording
from asrkit.io.files import open_file
from asrkit.io.json_text import json_text, read_json
from asrkit.io.lock import expect_free, remove_dead_locks
from asrkit.io.notes import Notes, notes_path

TRAIN_STAMP = ".train.stamp"  # in an experiment directory: the stamp of training, whose model several steps change
AUDIO = "audio"  # in a data directory: the name of the notes on the files in wav.scp


def file_digest(path: str | Path) -> str:
    """The SHA-256 digest of a file's content. Raises OSError if it cannot be read."""
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_notes(directory: Path, name: str) -> Notes:
    """The notes with the digests of files that are stored in `directory` under `name`."""
    return Notes(notes_path(directory, name), file_digest)


@runtime_checkable
class Input(Protocol):
    """An input of a step that has a content. All other inputs are JSON values."""

    def identity(self) -> Any:
        """A JSON value that identifies the present content; None if the input is missing."""


@dataclass(frozen=True)
class File:
    """A file as an input of a step. Its content counts."""

    path: Path

    def identity(self) -> str | None:
        """The digest of the file; None if it is missing."""
        return file_digest(self.path) if self.path.is_file() else None


@dataclass(frozen=True)
class Product:
    """The outputs of the step with the stamp `path`, as an input of another step. The content of its archives counts.

    The tables of the archives do not count: they have only the keys, which the archives have, too, and paths.
    """

    path: Path

    def identity(self) -> dict[str, str] | None:
        """The digest of each archive; None if an output is missing or wrong."""
        outputs = read_outputs(self.path)
        if outputs is None or wrong_outputs(self.path):
            return None
        archives = {name: output for name, output in outputs.items() if name.endswith(".ark")}
        return {name: output.sha256 for name, output in archives.items() if output is not None}


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """The SHA-256 digest of inputs: JSON values and `Input` objects. The order of keys does not matter."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=_identity).encode()).hexdigest()


def _identity(value: object) -> Any:
    return value.identity() if isinstance(value, Input) else str(value)


@dataclass(frozen=True)
class Output:
    """The content of a file at the time when it was written: its size in bytes and its digest."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, written: Written) -> Output:
        """The content of the file at `path`. Raises DataError if it is no longer the file that was `written`."""
        try:
            with open_file(path) as stream:
                if Written.of(stream) == written:
                    return cls(written.size, hashlib.file_digest(stream, "sha256").hexdigest())
        except FileNotFoundError:
            pass
        raise DataError(f"{location(path)}replaced by another process while this one ran; run it again")

    @classmethod
    def found(cls, path: Path) -> Output:
        """The content of the file at `path`, to which no other process may be writing."""
        with open_file(path) as stream:
            return cls.of(path, Written.of(stream))

    @classmethod
    def parse(cls, value: object) -> Output:
        """Convert the result of `to_json` back. Raises ValueError for any other value."""
        if not (isinstance(value, list) and [type(part) for part in value] == [int, str]):
            raise ValueError("expected size and digest of a file")
        return cls(*value)

    def to_json(self) -> list[int | str]:
        """The size and digest as a JSON value."""
        return list(astuple(self))

    def is_at(self, path: Path, since: int = 0) -> bool:
        """Whether the file at `path` has this content. It had it at the time `since` (nanoseconds)."""
        try:
            with open_file(path) as stream:
                status = os.fstat(stream.fileno())
                if status.st_size != self.size:
                    return False
                if status.st_ctime_ns < since:
                    return True
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
        except OSError:
            return False

    def is_noted(self, path: Path, notes: Notes) -> bool:
        """Whether the file at `path` has this content, according to `notes`, which are updated."""
        try:
            return os.stat(path).st_size == self.size and notes.of(path) == self.sha256
        except OSError:
            return False


class Stamp:
    """The stamp of a step. Compares the present inputs with the recorded inputs and outputs."""

    def __init__(self, path: str | Path, inputs: Mapping[str, Any]) -> None:
        """Compute the fingerprint of the inputs, before the step reads them, so that later changes are noticed."""
        self.path = Path(path)
        self.made_from = fingerprint(inputs)

    def is_current(self, *, while_changing: bool = False) -> bool:
        """Whether the step was done with these inputs and all its outputs are unchanged.

        If so, the locks of killed runs are removed. With `while_changing`, an output counts as right while another step
        changes it, or if that step was killed.
        """
        if not self.has_inputs() or (changed_outputs if while_changing else wrong_outputs)(self.path):
            return False
        directory = self.path.parent
        above = {directory.absolute().parent, *(path.parent for path in self.outputs())}
        remove_dead_locks(directory, directory / name_of(self.path), *above)
        return True

    def has_inputs(self) -> bool:
        """Whether the step was done with these inputs."""
        recorded = _read(self.path)
        return recorded is not None and recorded[0] == self.made_from

    def outputs(self) -> dict[Path, Output]:
        """The recorded outputs of the step, by path."""
        outputs = read_outputs(self.path) or {}
        return {self.path.parent / name: output for name, output in outputs.items() if output is not None}

    @contextlib.contextmanager
    def making(self, *, of: Container[str] | None = None, is_removed: bool = True) -> Iterator[Making]:
        """Write the stamp if the block ends without an exception. It lists the files written by `atomic_write`.

        `of`: the names of the files to list; None lists all. `is_removed`: remove the old stamp first.

        Raises DataError if another process replaced a file meanwhile.
        """
        if is_removed:
            self.path.unlink(missing_ok=True)
        with recording() as written:
            making = Making()
            yield making
        outputs = {path: Output.of(path, each) for path, each in written.items() if of is None or path.name in of}
        self.write(outputs | making.added())

    def write(self, outputs: Mapping[Path, Output]) -> None:
        """Write the stamp: the step is done and has these outputs. Raises OSError if it cannot be written."""
        directory = os.path.abspath(self.path.parent)
        _write(
            self.path, self.made_from, {os.path.relpath(path, directory): output for path, output in outputs.items()}
        )


class Making:
    """A step that is running."""

    def __init__(self) -> None:
        self._added: dict[Path, tuple[Output, int]] = {}

    def add(self, outputs: Mapping[Path, Output], listed_in: Path) -> None:
        """Add outputs that were written earlier or by another process. `listed_in` is the file that lists them."""
        since = listed_in.stat().st_mtime_ns
        self._added |= {path: (output, since) for path, output in outputs.items()}

    def added(self) -> dict[Path, Output]:
        """The outputs that were added. Raises DataError if one is not as it was listed."""
        for path, (output, since) in self._added.items():
            if not output.is_at(path, since):
                raise DataError(f"{location(path)}replaced by another process while this one ran; run it again")
        return {path: output for path, (output, _) in self._added.items()}


def stamp_of(file: Path) -> Path:
    """The path of the stamp of a step whose only output is `file`."""
    return file.parent / f".{file.name}.stamp"


def name_of(stamp: Path) -> str:
    """The name of a step in the notes about its outputs."""
    return stamp.name.removeprefix(".").removesuffix(".stamp")


def read_outputs(stamp: Path) -> dict[str, Output | None] | None:
    """The outputs that a stamp lists, by their paths relative to its directory; None without a valid stamp.

    An output is None while another step changes it, or if that step was killed.
    """
    recorded = _read(stamp)
    return None if recorded is None else recorded[1]


def wrong_outputs(stamp: Path) -> list[Path]:
    """The outputs of a step that are missing, differ from the stamp, or are being changed by another step."""
    outputs = read_outputs(stamp)
    if not outputs:
        return []
    notes = digest_notes(stamp.parent, name_of(stamp))
    places = {stamp.parent / name: output for name, output in outputs.items()}
    wrong = [path for path, output in places.items() if output is None or not output.is_noted(path, notes)]
    notes.save()
    return [Path(os.path.normpath(path)) for path in wrong]


def changed_outputs(stamp: Path) -> list[Path]:
    """The outputs of a step that are missing, or differ from the stamp and are not being changed by another step."""
    outputs = read_outputs(stamp) or {}
    wrong = wrong_outputs(stamp)
    return [path for path in wrong if outputs.get(os.path.relpath(path, stamp.parent)) is not None or not path.exists()]


def is_being_changed(stamp: Path) -> bool:
    """Whether another step is changing outputs, or was killed while it did so."""
    return None in (read_outputs(stamp) or {}).values()


def expect_right(
    stamp: Path, made_by: str, names: Container[str] | None = None, error: type[AsrkitError] = DataError
) -> None:
    """Raise `error` if an output of a step is missing or differs from its stamp.

    `made_by` is the command that makes the outputs. `names` are the outputs to check; None checks all. Files without a
    stamp are accepted, because another tool may have made them.

    Raises InUseError if another run is writing there.
    """

    def wrong() -> list[Path]:
        paths = changed_outputs(stamp)
        return [path for path in paths if names is None or os.path.relpath(path, stamp.parent) in names]

    if wrong():
        expect_free(stamp.parent, stamp.parent / name_of(stamp))
        for path in wrong():
            raise error(
                f"{location(path)}missing, or not as {made_by} left it; run that again, or remove {stamp} if you "
                "changed it on purpose"
            )


@contextlib.contextmanager
def changing(stamp: Path, names: Container[str]) -> Iterator[None]:
    """Change outputs of a finished step in the block. Afterwards its stamp lists the new content.

    `names` are the outputs that may change. Raises DataError if another process replaces one of them meanwhile.
    """
    recorded = _read(stamp)
    if recorded is None:
        yield
        return
    made_from, outputs = recorded
    _write(stamp, made_from, {name: None if name in names else output for name, output in outputs.items()})
    with recording() as written:
        yield
    for path, each in written.items():
        name = os.path.relpath(path, os.path.abspath(stamp.parent))
        if name in outputs:
            outputs[name] = Output.of(path, each)
    for name, output in outputs.items():
        if name in names and output is None and (stamp.parent / name).exists():  # an earlier change was killed
            outputs[name] = Output.found(stamp.parent / name)
    _write(stamp, made_from, outputs)


def _read(stamp: Path) -> tuple[str, dict[str, Output | None]] | None:
    try:
        content = read_json(stamp)
        outputs = {name: None if value is None else Output.parse(value) for name, value in content["outputs"].items()}
        return str(content["inputs"]), outputs
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _write(stamp: Path, made_from: str, outputs: Mapping[str, Output | None]) -> None:
    listed = {name: None if output is None else output.to_json() for name, output in sorted(outputs.items())}
    with not_recording(), atomic_write(stamp) as stream:
        stream.write(json_text({"inputs": made_from, "outputs": listed}, indent=1) + "\n")
