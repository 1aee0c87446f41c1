"""Changes of files below a directory, counted in every process; one can be killed before its Nth change, or run into a
full disk. changes.c, which the C compiler builds, is loaded into all processes before the C library.

    changes = Changes(directory)
    with changes.counted() as count:                # count.value: how many there were
    with changes.counted(kill_at=7):                # the process that makes the seventh is killed just before
    with changes.counted(fail_at=7, error=ENOSPC):  # the seventh, and each later one that takes space, fails
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_VARIABLE = "ASRKIT_FAULTS"  # names the file of the numbers that are shared
_PATH = 4096
# Is on, count, at, error, below, failed, 8 files and their number, 8 free names and theirs; as in changes.c.
_NUMBERS = struct.Struct(f"=4q{_PATH}s2q{8 * _PATH}sq{8 * _PATH}s")


def main_with_changes(main: Callable[[], int], module: str, prefix: Sequence[str] = ()) -> int:
    """Call `main` in a process, begun anew as `python -m MODULE` with the same arguments, in which Changes can be used.

    `prefix`: a command that runs another. Returns the status.
    """
    if _VARIABLE in os.environ:
        return main()
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    with tempfile.TemporaryDirectory(prefix="asrkit-faults-") as directory:
        library, numbers = Path(directory) / "changes.so", Path(directory) / "numbers"
        source = Path(__file__).with_name("changes.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        numbers.write_bytes(bytes(_NUMBERS.size))
        environment = os.environ | {"LD_PRELOAD": str(library), _VARIABLE: str(numbers)}
        return subprocess.run([*prefix, sys.executable, "-m", module, *sys.argv[1:]], env=environment).returncode


class Count:
    """How many changes there have been, and which were the first to fail."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory

    @property
    def value(self) -> int:
        count: int = _NUMBERS.unpack(self._memory[: _NUMBERS.size])[1]
        return count

    @property
    def failed(self) -> int:
        """The number of the first change that failed, 0 for none."""
        number: int = _NUMBERS.unpack(self._memory[: _NUMBERS.size])[5]
        return number

    @property
    def files(self) -> list[str]:
        """The first file of each process that it could not change."""
        _, number, files = _NUMBERS.unpack(self._memory[: _NUMBERS.size])[5:8]
        paths = [files[begin : begin + _PATH] for begin in range(0, len(files), _PATH)][:number]
        return [os.fsdecode(path.partition(b"\0")[0]) for path in paths]


class Changes:
    """The changes below one directory; that of this process are counted as well."""

    def __init__(self, below: Path) -> None:
        self._below = os.fsencode(below.resolve())
        with open(os.environ[_VARIABLE], "r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), _NUMBERS.size)

    @contextlib.contextmanager
    def counted(self, *, kill_at: int = 0, fail_at: int = 0, error: int = 0) -> Iterator[Count]:
        """Count, from 1 on, while the block lasts; 0: none is stopped."""
        self._set(1, kill_at or fail_at, error if fail_at else 0)
        try:
            yield Count(self._memory)
        finally:
            self._memory[:8] = bytes(8)

    def _set(self, is_on: int, at: int, error: int) -> None:
        self._memory[: _NUMBERS.size] = _NUMBERS.pack(is_on, 0, at, error, self._below, 0, 0, b"", 0, b"")
