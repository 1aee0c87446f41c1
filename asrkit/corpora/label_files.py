"""Label files beside the audio: which kinds there are, and how the labels of a recording are read from each."""

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

_PHN_RATE = 16000  # Hz, of .phn files whose audio cannot be read


@dataclass(frozen=True, slots=True)
class LabelSource:
    """The place of the labels of one recording.

    Attributes:
        name: the recording's path below the corpus without its ending, or what the file calls it.
        line: where its labels begin, in a file of several recordings.
        read: gives the labels; takes the audio's sampling rate in Hz, or None when that is not known.
    """

    name: str
    path: Path
    line: int | None
    read: Callable[[int | None], list[Label]]


class LabelReader(ABC):
    """Reads the label files of one kind."""

    kind: ClassVar[str]

    def __init__(self, tier: str | None, silence: str | None) -> None:
        """`tier` and `silence` are those of `read_textgrid_labels`.

        Raises ConfigError when the kind has no place for them.
        """
        if tier is not None or silence is not None:
            raise ConfigError(f"--tier and --silence are for TextGrids; the labels are .{self.kind}")

    @abstractmethod
    def sources(self, path: Path, name: str, findings: Findings) -> list[LabelSource]:
        """The recordings that a file labels; `name` is that of the file, without its ending."""

    def notes(self) -> list[str]:
        """What was detected in the files that were read, a line each."""
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


# By the name that a user gives, which is the files' ending.
LABEL_READERS: dict[str, type[LabelReader]] = {
    reader.kind: reader for reader in (_TextGrids, _PhnFiles, _LabFiles, _CtmFiles)
}
_KIND_OF_ENDING = {f".{kind}".lower(): kind for kind in LABEL_READERS}
LABEL_ENDINGS = tuple(_KIND_OF_ENDING)


def label_kind(path: str | Path) -> str | None:
    """The kind of a label file, by its name's ending; None when it is no label file."""
    return _KIND_OF_ENDING.get(os.path.splitext(path)[1].lower())
