"""The output of recognised or aligned phones: the options --format and --out, and their effect."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from asrkit.cli.options import add
from asrkit.errors import DataError, printable, raise_if_any
from asrkit.formats.results import FORMATS, Result
from asrkit.io.atomic import atomic_write, remove_leftovers
from asrkit.io.lock import lock_dir
from asrkit.io.tell import tell


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the options --format and --out."""
    add(parser, "--format", choices=FORMATS, default="text")
    add(parser, "--out", "It gets a file for each recording", shown="none, results go to standard output")


class ResultWriter:
    """Writes results in one format, to `directory` or, if it is None, to standard output."""

    def __init__(self, format_name: str, directory: Path | None, names: Sequence[str], keys: Sequence[str]):
        """Check where results will go. `names` and `keys` are those of all results.

        Raises:
            DataError: two results would go to the same file or have the same name; a key leads out of the directory or
                is not allowed in CTM; or standard output would get several files of a format that cannot be joined.
        """
        self.format = FORMATS[format_name]
        self.directory = directory
        self._written: set[Path] = set()
        faults = []
        if directory is None and len(keys) > 1 and not self.format.is_stream:
            raise DataError(f"--format {format_name}: {len(keys)} recordings; give --out DIR to get a file for each")
        owners: dict[str, str] = {}
        for name, key in zip(map(printable, names), keys, strict=True):
            shown = printable(key)
            if directory is not None:
                if key.startswith("/") or ".." in key.split("/"):
                    faults.append(f"{name}: the name {shown} leads out of {directory}; leave --out out")
                elif key in owners:
                    file = printable(self._file(key))
                    faults.append(f"{name}: {file} is {owners[key]}'s, too; rename one or treat them one by one")
            if self.format.has_keys:
                if key.split() != [key] or shown != key:
                    faults.append(
                        f"{name}: the name '{shown}' holds a blank or a control character, which CTM has no place for; "
                        "rename it"
                    )
                elif directory is None and key in owners:
                    faults.append(f"{name}: in CTM it is {shown}, as {owners[key]} is; rename one")
            owners.setdefault(key, name)
        raise_if_any(faults)
        self._directories = set() if directory is None else {self._file(key).parent for key in keys}

    @contextlib.contextmanager
    def locked(self, verb: str) -> Iterator[None]:
        """Lock the directory during a `with` block, so that nobody else writes to it.

        Raises InUseError and OSError as lock_dir.
        """
        if self.directory is None:
            yield
            return
        with lock_dir(self.directory, verb):
            for directory in self._directories:
                if directory != self.directory and directory.is_dir():
                    remove_leftovers(directory)
            yield
        num_written = len(self._written)
        tell(f"{printable(self.directory)}: {num_written} file{'s' * (num_written != 1)} written")

    def write(self, result: Result) -> None:
        """Write one result."""
        content = self.format.render(result)
        if self.directory is None:
            print(content, end="", flush=True)
            return
        self.write_file(self._file(result.key), content.encode())

    def write_file(self, path: Path, content: bytes) -> None:
        """Write a file of a result. Raises DataError if another result already has a file of this name."""
        if path in self._written:
            raise DataError(
                f"{printable(path)}: belongs to another recording, too; rename one or treat them one by one"
            )
        with atomic_write(path, "wb") as stream:
            stream.write(content)
        self._written.add(path)

    def _file(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / f"{key}{self.format.suffix}"
