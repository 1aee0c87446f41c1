"""Finds the recordings that a command line names: files, directories, patterns, lists, standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio.file_formats import (
    AAC,
    AUDIO_ENDINGS,
    HEAD_BYTES,
    MPEG,
    UNREADABLE_AUDIO_ENDINGS,
    AudioFormat,
    format_of_ending,
    identify,
    not_read,
)
from asrkit.audio.mp3 import begins_with_frames
from asrkit.errors import ConfigError, location, printable
from asrkit.findings import Findings
from asrkit.io.files import open_file
from asrkit.io.tell import tell
from asrkit.io.text import read_text

STANDARD_INPUT = "-"
# Number of bytes from the beginning of a file that `file_format` needs: two of the longest MPEG frames.
RAW_HEAD_BYTES = 2**14


@dataclass(frozen=True)
class Input:
    """A recording to recognise.

    Attributes:
        name: its path as the user gave it, or - for standard input.
        key: the name of its result.
        fault: why it cannot be read; None if no fault is known.
    """

    name: str
    key: str
    fault: str | None = None


def find_inputs(arguments: Iterable[str], list_file: Path | None = None) -> list[Input]:
    """The recordings that `arguments` name, followed by those that the lines of `list_file` name.

    An argument is a file, a directory, a pattern (`*.wav`) or - for standard input. The files of a directory are
    sorted, and their keys are their paths within it. A directory without audio and a pattern that
    matches nothing give an `Input` with a fault. So does a file of a directory whose format asrkit does not read.

    Raises:
        DataError: the list cannot be read.
        ConfigError: nothing is named.
    """
    inputs: list[Input] = []
    fault = None  # of standard input, from its second mention on
    for argument in (*arguments, *_read_lines(list_file)):
        if argument == STANDARD_INPUT:
            inputs.append(Input(argument, "stdin", fault))
            fault = "-: standard input can be read only once"
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = sorted(glob.glob(argument, recursive=True))
            inputs += [each for match in matches for each in _of_path(match)]
            inputs += [] if matches else [Input(argument, "", f"{printable(argument)}: no file matches")]
        else:
            inputs += _of_path(argument)
    if not inputs:
        raise ConfigError("no audio; name files or directories, or give - for standard input")
    return inputs


def file_format(head: bytes) -> AudioFormat | None:
    """The format of the file that begins with the bytes `head`; None for samples without a header.

    `head` is the first RAW_HEAD_BYTES bytes or more. The mark of an MPEG or AAC frame is so short that a sample may
    look like it. Unlike `identify`, this function therefore asks for a second frame after the first.
    """
    kind = identify(head)
    if kind is MPEG:
        return kind if begins_with_frames(head) else None
    if kind is AAC and not head.startswith(b"ADIF"):
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) > 5 else 0
        return kind if size > 7 and head[size : size + 2] == head[:2] else None
    return MPEG if kind is None and head.startswith((b"ID3", b"APETAGEX")) else kind


def visible_files(directory: str | Path, findings: Findings, exclude: str | Path | None = None) -> Iterator[Path]:
    """The files in `directory` and its subdirectories, sorted within each directory.

    Hidden files, hidden directories and the directory `exclude` are left out. Links are followed, but no directory is
    entered twice. A directory that cannot be read is an error in `findings`.
    """
    entered = {os.path.realpath(each) for each in (directory, exclude) if each is not None}  # links may form circles
    for parent, subdirectories, names in os.walk(directory, onerror=findings.unreadable, followlinks=True):
        kept = []
        for name in sorted(subdirectories):
            real = os.path.realpath(os.path.join(parent, name))
            if not name.startswith(".") and real not in entered:
                entered.add(real)
                kept.append(name)
        subdirectories[:] = kept
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _read_lines(list_file: Path | None) -> list[str]:
    if list_file is None:
        return []
    findings = Findings()
    text = read_text(list_file, findings)
    findings.raise_errors()
    return [line for line in (text or "").split("\n") if line.strip()]


def _of_path(path: str) -> list[Input]:
    """The file `path`, or all audio files of the directory `path`."""
    if not os.path.isdir(path):
        return [Input(path, Path(path).stem)]
    endings = AUDIO_ENDINGS | UNREADABLE_AUDIO_ENDINGS
    findings = Findings()
    files = [file for file in visible_files(path, findings) if file.suffix.lower() in endings]
    unread = [Input(path, "", fault) for fault in findings.errors]
    if not files:
        expected = " ".join(sorted(AUDIO_ENDINGS))
        fault = f"{location(path)}a directory without audio; expected files that end in {expected}"
        return unread or [Input(path, "", fault)]
    tell(f"{printable(path)}: {len(files)} audio file{'s' * (len(files) != 1)}")
    found = [Input(str(file), file.relative_to(path).with_suffix("").as_posix(), _fault_of(file)) for file in files]
    return found + unread


def _fault_of(file: Path) -> str | None:
    """The fault of a file whose format asrkit does not read, or None.

    The content of the file is looked at only if its ending belongs to such a format.
    """
    by_ending = format_of_ending(file.suffix.lower())
    if by_ending is None or by_ending.is_read:
        return None
    try:
        with open_file(file) as stream:
            by_content = identify(stream.read(HEAD_BYTES))
    except OSError:
        return None  # decoding it will report the fault
    is_read = by_content is not None and by_content.is_read
    return None if is_read else not_read(printable(file), by_content or by_ending)
