"""The output of `asrkit train --log-gradients`: gradients.csv, gradients.png, and scalars for TensorBoard."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from asrkit.errors import DataError, location
from asrkit.io.atomic import atomic_write
from asrkit.io.files import open_file
from asrkit.training.dataset import TrainingSet
from asrkit.training.gradients import DIRECTIONS, WEIGHTS, Norms, Place, gradient_norms
from asrkit.training.state import GRADIENT_FILES, TrainingState

_HEAD = ("epoch", "part", "gradient_of", "lag", "norm")
_NUM_UTTS = 8
_SECONDS_BETWEEN_PICTURES = 60  # drawing takes as long as a short epoch


class GradientLog:
    """Norms of gradients after each epoch, on one batch.

    The batch has utterances of medium length from `probe`, which must not be empty.
    """

    def __init__(self, directory: Path, probe: TrainingSet, first_epoch: int) -> None:
        """Begin or continue a log. Epochs before `first_epoch` in the table of the directory are kept.

        Raises:
            DataError: the table is faulty.
        """
        self._table, self._picture = (directory / name for name in GRADIENT_FILES)
        batches = probe.batches(_NUM_UTTS)
        self._batch = probe.load(batches[len(batches) // 2])
        self._epochs = {epoch: each for epoch, each in read_norms(self._table).items() if epoch < first_epoch}
        self._last_picture = time.monotonic()

    def add(self, state: TrainingState) -> dict[str, float]:
        """Compute and store the norms of the current epoch, with the weights as they are now.

        Returns scalars by their tags.
        """
        norms = gradient_norms(state.model, self._batch, state.frame_weight, state.decoder_training)
        self._epochs[state.epoch] = norms
        write_norms(self._table, self._epochs)
        if time.monotonic() - self._last_picture > _SECONDS_BETWEEN_PICTURES:
            self.draw()
        return scalars(norms)

    def draw(self) -> None:
        """Update the figure."""
        from asrkit.training.curve import draw_gradients  # loads matplotlib

        draw_gradients(self._epochs, self._picture)
        self._last_picture = time.monotonic()


def scalars(norms: Norms) -> dict[str, float]:
    """The norms as scalars by their tags; only lags 0, 1, 2, 4, 8..."""
    tagged = {}
    for place, each in norms.items():
        part = place.part.replace(" ", "_")
        if place.of == WEIGHTS:
            tagged[f"gradient_of_weights/{part}"] = float(each[0])
            continue
        for lag in [0, *(2**power for power in range(len(each).bit_length()) if 2**power < len(each))]:
            tagged[f"gradient_by_lag/{part}_{place.of}_{lag:03}"] = float(each[lag])
    return tagged


def write_norms(path: Path, epochs: Mapping[int, Norms]) -> None:
    """Write one row per norm. Norms of weights have no lag."""
    with atomic_write(path) as stream:
        stream.write(",".join(_HEAD) + "\n")
        for epoch, norms in epochs.items():
            for place, each in norms.items():
                for lag, norm in enumerate(each):
                    stream.write(f"{epoch},{place.part},{place.of},{'' if place.of == WEIGHTS else lag},{norm:.6g}\n")


def read_norms(path: Path) -> dict[int, Norms]:
    """Read a table of write_norms(); empty if there is no such file.

    Raises:
        DataError: a line is faulty.
    """
    if not path.is_file():
        return {}
    found: dict[int, dict[Place, list[float]]] = {}
    with open_file(path) as stream:
        lines = stream.read().decode("utf-8", "replace").splitlines()
    for number, row in enumerate(csv.reader(lines), start=1):
        try:
            if number == 1:
                if tuple(row) != _HEAD:
                    raise ValueError("another head")
                continue
            epoch, part, of, lag, norm = row
            norms = found.setdefault(int(epoch), {}).setdefault(Place(part, of), [])
            if of not in (WEIGHTS, *DIRECTIONS) or lag != ("" if of == WEIGHTS else str(len(norms))):
                raise ValueError("not in order")
            norms.append(float(norm))
        except ValueError:
            raise DataError(
                f"{location(path, number)}expected {', '.join(_HEAD)} as --log-gradients writes them; remove the file "
                "to log the epochs that follow"
            ) from None
    return {epoch: {place: np.array(each) for place, each in norms.items()} for epoch, norms in found.items()}
