"""The kinds of label files that may stand beside the audio, and how to read the labels of recordings from them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from asrkit.errors import ConfigError
from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm
from asrkit.formats.lab import Unit, read_lab
from asrkit.formats.label import Label
from asrkit.formats.phn import read_phn
from asrkit.formats.textgrid import read_textgrid_labels

_PHN_RATE = 16000  # in Hz, for .phn files whose audio cannot be read


@dataclass(frozen=True, slots=True)
class LabelSource:
    """The source of the labels of one recording.

    Attributes:
        name: the path of the recording within the corpus, without its ending, or its name in the file.
        path: the label file.
        line: the line at which its labels begin, in a file with several recordings; otherwise None.
        read: a function that returns the labels. Its argument is the sampling rate of the audio (Hz), or None if it is
            not known.
    """

    name: str
    path: Path
    line: int | None
    read: Callable[[int | None], list[Label]]


class LabelReader(ABC):
    """The base class of the readers: each reads label files of one kind."""

    kind: ClassVar[str]

    def __init__(self, tier: str | None, silence: str | None) -> None:
        """`tier` and `silence` mean the same as for `read_textgrid_labels`.

        Raises ConfigError if they are given, but this kind of files does not have them.
        """
        if tier is not None or silence is not None:
            raise ConfigError(f"--tier and --silence are for TextGrids; the labels are .{self.kind}")

    @abstractmethod
    def sources(self, path: Path, name: str, findings: Findings) -> list[LabelSource]:
        """The recordings in a label file. `name` is the path of the file within the corpus, without its ending.

        Errors are added to `findings`.
        """

    def notes(self) -> list[str]:
        """What was detected in the files, one line each."""
        return []


class _FilePerRecording(LabelReader):
    def sources(self, path: Path, name: str, findings: Findings) -> list[LabelSource]:
        return [LabelSource(name, path, None, partial(self._read_file, path, findings))]

    @abstractmethod
    def _read_file(self, path: Path, findings: Findings, sample_rate: int | None) -> list[Label]: ...


class _TextGrids(_FilePerRecording):
    kind = "TextGrid"

    def __init__(self, tier: str | None, silence: str | None) -> None:
        self._tier, self._silence = tier, silence

    def _read_file(self, path: Path, findings: Findings, sample_rate: int | None) -> list[Label]:
        return read_textgrid_labels(path, self._tier, self._silence, findings)


class _PhnFiles(_FilePerRecording):
    kind = "phn"

    def _read_file(self, path: Path, findings: Findings, sample_rate: int | None) -> list[Label]:
        return read_phn(path, sample_rate or _PHN_RATE, findings)


class _LabFiles(_FilePerRecording):
    kind = "lab"
    _DESCRIPTIONS: ClassVar[dict[Unit, str]] = {
        "100 ns": "in units of 100 ns, as HTK's",
        "s": "in seconds",
        "none": "no times",
    }

    def __init__(self, tier: str | None, silence: str | None) -> None:
        super().__init__(tier, silence)
        self._units: Counter[Unit] = Counter()

    def _read_file(self, path: Path, findings: Findings, sample_rate: int | None) -> list[Label]:
        labels, unit = read_lab(path, findings)
        self._units[unit] += 1
        return labels

    def notes(self) -> list[str]:
        counts = [f"{number} files {self._DESCRIPTIONS[unit]}" for unit, number in sorted(self._units.items())]
        return [f".lab: {'; '.join(counts)}"] if counts else []


class _CtmFiles(LabelReader):
    kind = "ctm"

    def sources(self, path: Path, name: str, findings: Findings) -> list[LabelSource]:
        return [
            LabelSource(recording, path, labels[0].line, partial(_as_they_are, labels))
            for recording, labels in read_ctm(path, findings).items()
        ]


def _as_they_are(labels: list[Label], sample_rate: int | None) -> list[Label]:
    return labels


# By the names that a user gives, which are the endings of the files.
LABEL_READERS: dict[str, type[LabelReader]] = {
    reader.kind: reader for reader in (_TextGrids, _PhnFiles, _LabFiles, _CtmFiles)
}
_KIND_OF_ENDING = {f".{kind}".lower(): kind for kind in LABEL_READERS}
LABEL_ENDINGS = tuple(_KIND_OF_ENDING)


def label_kind(path: str | Path) -> str | None:
    """The kind of a label file, by the ending of its name; None for other files."""
    return _KIND_OF_ENDING.get(os.path.splitext(path)[1].lower())
