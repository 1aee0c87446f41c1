"""Stamps: what a finished step was made from and what it left, so that running it again can be skipped.

A stamp is taken away before a step writes anything, and written last. It holds a fingerprint of the inputs and a list
of the outputs: each one's size and SHA-256, of what this process wrote (`recording`), so that what another process put
in its place is not taken for it. An output is right when it has that content, wherever it is now. Files are read to
find out, and noted (io/notes.py) so that they are not read again while they stay as they are.

What a step depends on is content, too, never a place or a time, so that a tree may be copied and moved.
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

TRAIN_STAMP = ".train.stamp"  # in an experiment directory: whose model that is, which several steps change and read
AUDIO = "audio"  # in a data directory: the notes on the files that wav.scp names


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_notes(directory: Path, name: str) -> Notes:
    """Digests of files, as they were noted in `directory` under this name."""
    return Notes(notes_path(directory, name), file_digest)


@runtime_checkable
class Input(Protocol):
    """Something that a step depends on, among its other inputs, which are values of JSON."""

    def identity(self) -> Any:
        """The present content, as a JSON value."""


@dataclass(frozen=True)
class File:
    """A file whose content counts; None when it is missing."""

    path: Path

    def identity(self) -> str | None:
        return file_digest(self.path) if self.path.is_file() else None


@dataclass(frozen=True)
class Product:
    """What a step left that has the stamp `path`: the content of its archives counts; None unless all is right.

    The tables beside archives say where these are, which does not count; what else they say is in the archives, too.
    """

    path: Path

    def identity(self) -> dict[str, str] | None:
        outputs = read_outputs(self.path)
        if outputs is None or wrong_outputs(self.path):
            return None
        archives = {name: output for name, output in outputs.items() if name.endswith(".ark")}
        return {name: output.sha256 for name, output in archives.items() if output is not None}


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of inputs, which are values of JSON and `Input`s; independent of the order of keys."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=_identity).encode()).hexdigest()


def _identity(value: object) -> Any:
    return value.identity() if isinstance(value, Input) else str(value)


@dataclass(frozen=True)
class Output:
    """The content of a file when it was written."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, written: Written) -> Output:
        """The file at `path`. Raises DataError when it is not the one that was written."""
        try:
            with open_file(path) as stream:
                if Written.of(stream) == written:
                    return cls(written.size, hashlib.file_digest(stream, "sha256").hexdigest())
        except FileNotFoundError:
            pass
        raise DataError(f"{location(path)}replaced by another process while this one ran; run it again")

    @classmethod
    def found(cls, path: Path) -> Output:
        """The file at `path`, where no other process writes."""
        with open_file(path) as stream:
            return cls.of(path, Written.of(stream))

    @classmethod
    def parse(cls, value: object) -> Output:
        """Read what `to_json` gave. Raises ValueError for anything else."""
        if not (isinstance(value, list) and [type(part) for part in value] == [int, str]):
            raise ValueError("expected size and digest of a file")
        return cls(*value)

    def to_json(self) -> list[int | str]:
        return list(astuple(self))

    def is_at(self, path: Path, since: int = 0) -> bool:
        """Whether the file at `path` has this content, which it had at the time `since`, in nanoseconds."""
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
        """Whether the file at `path` has this content, as far as notes say, which are brought up to date."""
        try:
            return os.stat(path).st_size == self.size and notes.of(path) == self.sha256
        except OSError:
            return False


class Stamp:
    """The stamp of a step: what it would be made from now, and what it was made from and left when it was done."""

    def __init__(self, path: str | Path, inputs: Mapping[str, Any]) -> None:
        """Takes what the inputs are at this moment: before the step reads them, so that a later change is noticed."""
        self.path = Path(path)
        self.made_from = fingerprint(inputs)

    def is_current(self, *, while_changing: bool = False) -> bool:
        """Whether the step was made from these inputs, and all that it left is as it left it.

        Then the locks of runs that were killed after that are removed. `while_changing`: what another step is changing,
        or was when it was killed, counts as right.
        """
        if not self.has_inputs() or (changed_outputs if while_changing else wrong_outputs)(self.path):
            return False
        directory = self.path.parent
        above = {directory.absolute().parent, *(path.parent for path in self.outputs())}
        remove_dead_locks(directory, directory / name_of(self.path), *above)
        return True

    def has_inputs(self) -> bool:
        """Whether the step was made from these inputs."""
        recorded = _read(self.path)
        return recorded is not None and recorded[0] == self.made_from

    def outputs(self) -> dict[Path, Output]:
        """The outputs of the step, by path."""
        outputs = read_outputs(self.path) or {}
        return {self.path.parent / name: output for name, output in outputs.items() if output is not None}

    @contextlib.contextmanager
    def making(self, *, of: Container[str] | None = None, is_removed: bool = True) -> Iterator[Making]:
        """Write the stamp when the block ends without an exception; files that it wrote by `atomic_write` are listed.

        `of`: only files of these names. `is_removed`: the stamp that is there is removed first.
        """
        if is_removed:
            self.path.unlink(missing_ok=True)
        with recording() as written:
            making = Making()
            yield making
        outputs = {path: Output.of(path, each) for path, each in written.items() if of is None or path.name in of}
        self.write(outputs | making.added())

    def write(self, outputs: Mapping[Path, Output]) -> None:
        """Record that the step is done, and left these files."""
        directory = os.path.abspath(self.path.parent)
        _write(
            self.path, self.made_from, {os.path.relpath(path, directory): output for path, output in outputs.items()}
        )


class Making:
    """A step that is being done."""

    def __init__(self) -> None:
        self._added: dict[Path, tuple[Output, int]] = {}

    def add(self, outputs: Mapping[Path, Output], listed_in: Path) -> None:
        """Note files that the step leaves, but that were written before or elsewhere, and the file that lists them."""
        since = listed_in.stat().st_mtime_ns
        self._added |= {path: (output, since) for path, output in outputs.items()}

    def added(self) -> dict[Path, Output]:
        """Those files. Raises DataError when one is not as it was listed."""
        for path, (output, since) in self._added.items():
            if not output.is_at(path, since):
                raise DataError(f"{location(path)}replaced by another process while this one ran; run it again")
        return {path: output for path, (output, _) in self._added.items()}


def stamp_of(file: Path) -> Path:
    """The stamp of a step that makes a file which stands alone."""
    return file.parent / f".{file.name}.stamp"


def name_of(stamp: Path) -> str:
    """The name of a step, under which its outputs are noted."""
    return stamp.name.removeprefix(".").removesuffix(".stamp")


def read_outputs(stamp: Path) -> dict[str, Output | None] | None:
    """The outputs that a stamp lists, by their paths from its directory; None without one.

    An output that is being changed by another step, or was when that was killed, is None.
    """
    recorded = _read(stamp)
    return None if recorded is None else recorded[1]


def wrong_outputs(stamp: Path) -> list[Path]:
    """The outputs of a step that are missing or not as it left them; those that another step is changing, too."""
    outputs = read_outputs(stamp)
    if not outputs:
        return []
    notes = digest_notes(stamp.parent, name_of(stamp))
    places = {stamp.parent / name: output for name, output in outputs.items()}
    wrong = [path for path, output in places.items() if output is None or not output.is_noted(path, notes)]
    notes.save()
    return [Path(os.path.normpath(path)) for path in wrong]


def changed_outputs(stamp: Path) -> list[Path]:
    """The outputs of a step that are missing, or that are not as it left them and that no other step is changing."""
    outputs = read_outputs(stamp) or {}
    wrong = wrong_outputs(stamp)
    return [path for path in wrong if outputs.get(os.path.relpath(path, stamp.parent)) is not None or not path.exists()]


def is_being_changed(stamp: Path) -> bool:
    """Whether another step is changing outputs, or was when it was killed."""
    return None in (read_outputs(stamp) or {}).values()


def expect_right(
    stamp: Path, made_by: str, names: Container[str] | None = None, error: type[AsrkitError] = DataError
) -> None:
    """Raise `error` for an output of a step, one of `names`, that is not as the step left it.

    `made_by` is what makes it again. Of files without a stamp, which another tool may have made, nothing is known.
    Raises InUseError where another run is writing there.
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
    """Change outputs of a finished step, those of these names, and list them in its stamp as they are then."""
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
        if name in names and output is None and (stamp.parent / name).exists():  # of a change that was killed
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
