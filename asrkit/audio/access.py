"""Reads the audio that a wav.scp file names. Settings: the root of paths, whether commands run, and the channel."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from asrkit.audio.read import AudioInfo, Channel, decode, no_room, open_audio_file, spooled, stream_info
from asrkit.errors import AudioError, printable
from asrkit.types import Waveform


@dataclass(frozen=True)
class AudioAccess:
    """Settings for reading the audio of a data directory.

    An entry is what a line of wav.scp names: a path, or a Kaldi pipe (`command |`).

    Attributes:
        root: the directory in which relative paths start and commands run. None is the current directory.
        allow_pipes: whether to run the commands in wav.scp. Set it only if you trust the data.
        channel: the channel of a multi-channel file, as in `read_audio`.
        verify: how to find out whether audio has changed. True: read all files and run all commands again. False: a
            file is unchanged if its size, times and inode are, a command if its text is.
    """

    root: Path | None = None
    allow_pipes: bool = False
    channel: Channel = "error"
    verify: bool = False

    def load(
        self, entry: str, *, sample_rate: int | None = None, start: float | None = None, end: float | None = None
    ) -> Waveform:
        """Decode the audio of an entry to samples (num_samples,).

        `start` and `end` (seconds) select a part. It is cut out before resampling to `sample_rate` (Hz). An `end` up to
        END_TOLERANCE after the end of the recording means the end of the recording.

        Raises AudioError as `read_audio`. Also if the entry is a pipe and `allow_pipes` is False, if its command fails,
        or if the part is empty or lies outside the recording.
        """
        with self._open(entry) as (stream, name):
            return decode(stream, name, sample_rate, self.channel, start, end)

    def info(self, entry: str) -> AudioInfo:
        """The length, sampling rate and number of channels of an entry. Raises AudioError as `load`."""
        with self._open(entry) as (stream, name):
            return stream_info(stream, name)

    def may_read(self, entry: str) -> bool:
        """Whether the entry is a file, or a pipe that these settings allow to run."""
        return self.allow_pipes or not is_pipe(entry)

    def path(self, entry: str) -> str:
        """The path of the file that an entry names, with `root` before it. A pipe is returned unchanged."""
        return entry if is_pipe(entry) else os.path.join(self.root or "", entry)

    @contextlib.contextmanager
    def _open(self, entry: str) -> Iterator[tuple[BinaryIO, str]]:
        """The content of an entry as a file, and the name of the entry for messages."""
        entry = entry.strip()
        if is_pipe(entry):
            with self._run_pipe(entry) as stream:
                yield stream, printable(entry)
            return
        path = self.path(entry)
        with open_audio_file(path) as stream:
            yield stream, printable(path)

    @contextlib.contextmanager
    def _run_pipe(self, entry: str) -> Iterator[BinaryIO]:
        """Run a command and give its output as a file."""
        if not self.allow_pipes:
            raise AudioError(f"{entry}: a pipe, which is run only with --allow-pipes; give it if you trust this data")
        if not entry.endswith("|"):
            raise AudioError(f"{entry}: an output pipe; expected a path or `command |`")
        # The command does not write into the file itself: programs behave differently when the disk is full.
        with _temporary(entry) as messages, _running(entry[:-1], self.root, messages) as command:
            assert command.stdout is not None
            with spooled(command.stdout, entry) as stream:
                status = command.wait()
                if status != 0:
                    messages.seek(0)
                    said = messages.read().decode("utf-8", "replace").strip().split("\n")[-1]
                    raise AudioError(f"{entry}: the command failed with status {status}{said and f' ({said})'}")
                if os.fstat(stream.fileno()).st_size == 0:
                    raise AudioError(f"{entry}: the command printed nothing; expected audio")
                yield stream


def _temporary(entry: str) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise no_room(entry, error) from None


@contextlib.contextmanager
def _running(command_line: str, directory: Path | None, messages: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a shell command. When the block ends, the command and all processes that it started are ended."""
    # It is started in a thread: otherwise Ctrl-C during the start would lose the process.
    starter = ThreadPoolExecutor(1)
    starting = starter.submit(
        subprocess.Popen[bytes],
        command_line,
        shell=True,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=messages,
        process_group=0,
    )
    try:
        yield _started(starting, command_line)
    finally:
        starter.shutdown()
        if starting.exception() is None:
            with starting.result() as command:
                if command.returncode is None:  # the shell's children may outlive the shell
                    os.killpg(command.pid, signal.SIGKILL)


def _started(starting: Future[subprocess.Popen[bytes]], command_line: str) -> subprocess.Popen[bytes]:
    try:
        return starting.result()
    except OSError as error:
        raise AudioError(f"{printable(command_line)}|: cannot be run ({error.strerror or error})") from None


def is_pipe(entry: str) -> bool:
    """Whether Kaldi takes an entry of wav.scp for a command: it ends or begins with `|`."""
    return entry.rstrip().endswith("|") or entry.lstrip().startswith("|")
