"""The names of the steps of a recipe, and a check that the inputs of a step exist."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from asrkit.errors import location, raise_if_any
from asrkit.io.lock import is_there
from asrkit.io.stamp import TRAIN_STAMP, changing

PREPARE = "stage 0 (asrkit prepare)"
EXTRACT = "stage 1 (asrkit extract)"
TRAIN_LM = "stage 2 (asrkit train-lm)"
TRAIN = "stage 3 (asrkit train)"
DECODE = "stage 4 (asrkit decode)"
DECODE_STAMP = ".decode.stamp"


@dataclass(frozen=True)
class DecodedSet:
    """A data directory and the output of decoding it.

    Attributes:
        data_dir: the data directory.
        decode_dir: the directory of the hypotheses and the files beside them.
        log_probs: the directory of the log-probabilities; by default `decode_dir`.
    """

    data_dir: Path
    decode_dir: Path
    log_probs: Path | None = None

    @property
    def log_prob_dir(self) -> Path:
        """The directory of the log-probabilities."""
        return self.log_probs or self.decode_dir


def decode_dir(experiment: Path, data_dir: Path) -> Path:
    """The default directory for an experiment's decoding of a data directory: EXP/decode_SET."""
    return experiment / f"decode_{set_name(data_dir)}"


def set_name(data_dir: Path) -> str:
    """The name of a set: that of its data directory."""
    return data_dir.resolve().name


def changing_model(directory: Path) -> AbstractContextManager[None]:
    """A context in which decoding settings or the export of a trained model change.

    Afterwards the stamp lists the new files.
    """
    return changing(directory / TRAIN_STAMP, ("final.pt", "final.onnx", "config.yaml"))


def expect_files(made_by: Mapping[Path, str]) -> None:
    """Check that files exist. `made_by`: file -> the step that makes it.

    Raises:
        DataError: files are missing, with a line for each that names the step; or as is_there.
    """
    raise_if_any([f"{location(path)}not found; made by {step}" for path, step in made_by.items() if not is_there(path)])
