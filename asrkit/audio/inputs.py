"""Which recordings are meant: files, directories, patterns, lists, standard input."""

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
# Enough for `file_format`: two of the longest frames.
RAW_HEAD_BYTES = 2**14


@dataclass(frozen=True)
class Input:
    """A recording: its `name` as the user knows it, and the `key` that names its result. A `fault` rules it out."""

    name: str
    key: str
    fault: str | None = None


def find_inputs(arguments: Iterable[str], list_file: Path | None = None) -> list[Input]:
    """The recordings that the arguments, and then the lines of `list_file`, name, in their order.

    Those of a directory are sorted; their keys are their paths within it. Directories without audio, patterns without
    a match and files in directories whose format is not read are faults. Raises DataError for a list that cannot be
    read, ConfigError when nothing is named.
    """
    inputs: list[Input] = []
    fault = None  # of standard input
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
    """The format of the file that begins with `head` (RAW_HEAD_BYTES or more of it); None for samples without a header.

    Unlike `identify` it asks for a second frame where the mark of one may be a sample.
    """
    kind = identify(head)
    if kind is MPEG:
        return kind if begins_with_frames(head) else None
    if kind is AAC and not head.startswith(b"ADIF"):
        size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) > 5 else 0
        return kind if size > 7 and head[size : size + 2] == head[:2] else None
    return MPEG if kind is None and head.startswith((b"ID3", b"APETAGEX")) else kind


def visible_files(directory: str | Path, findings: Findings, exclude: str | Path | None = None) -> Iterator[Path]:
    """The files in a directory and below it, sorted in each directory, but for hidden ones.

    Those in hidden directories and in the directory `exclude` are left out. Links are followed, each directory is
    entered once. One that cannot be read is an error in `findings`.
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
    """A file, or all audio files of a directory."""
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
    """What is wrong with a file of a directory by its format: by its content if its ending is one that is not read."""
    by_ending = format_of_ending(file.suffix.lower())
    if by_ending is None or by_ending.is_read:
        return None
    try:
        with open_file(file) as stream:
            by_content = identify(stream.read(HEAD_BYTES))
    except OSError:
        return None  # opening it again tells the fault
    is_read = by_content is not None and by_content.is_read
    return None if is_read else not_read(printable(file), by_content or by_ending)
