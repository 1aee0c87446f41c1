"""The progress of a training run: a line per epoch, history.csv, TensorBoard scalars, a picture of the curves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from asrkit.io.atomic import atomic_write
from asrkit.io.tell import tell
from asrkit.training.events import EventFile
from asrkit.training.state import EpochRecord, LmEpoch

_SECONDS_BETWEEN_PICTURES = 60  # drawing takes as long as a short epoch
_PHASES = ("pre-training on frames, ", "", "with weight noise, ")


class Monitor:
    """The reports of a run in `directory` that starts or continues with `first_epoch`."""

    def __init__(self, directory: Path, first_epoch: int):
        self.directory = directory
        # TensorBoard hides what a killed run wrote about epochs that are now repeated.
        self._events = EventFile(directory / "tensorboard", first_epoch)
        self._last_picture = time.monotonic()

    def show(self, history: Sequence[EpochRecord], utts_per_second: float, left: float, last_epoch: int) -> None:
        """Report the last epoch of `history`. `left` is the expected time to the end in seconds."""
        record = history[-1]
        blank = " (blank phase)" if record.blank_phase else ""
        skipped = f"skipped batches: {record.skipped_batches}, " if record.skipped_batches else ""
        tell(
            f"epoch {record.epoch}/{last_epoch}: {_PHASES[record.phase]}loss {record.train_loss:.3f}, "
            f"dev loss {record.dev_loss:.3f}, dev PER {record.dev_per:.2f} %{blank}, {skipped}"
            f"{utts_per_second:.0f} utterances/s, {record.cpu_seconds:.0f} CPU seconds, {left:.0f} s left"
        )
        write_history(self.directory / "history.csv", history)
        names = ("train_loss", "dev_loss", "dev_per", "learning_rate", "gradient_norm", "skipped_batches")
        scalars = {name: getattr(record, name) for name in names}
        self._events.add({**scalars, "utterances_per_second": utts_per_second}, record.epoch)
        if time.monotonic() - self._last_picture > _SECONDS_BETWEEN_PICTURES:
            self._draw(history)

    def add_scalars(self, scalars: Mapping[str, float], epoch: int) -> None:
        """Show further numbers of an epoch in TensorBoard, by their tags."""
        self._events.add(scalars, epoch)

    def close(self, history: Sequence[EpochRecord]) -> None:
        """Write the final table and picture, and close the files."""
        self._events.close()
        write_history(self.directory / "history.csv", history)
        self._draw(history)

    def _draw(self, history: Sequence[EpochRecord]) -> None:
        # Imported here, so that other parts of training do not need matplotlib.
        from asrkit.training.curve import draw_learning_curve

        draw_learning_curve(history, self.directory / "learning_curve.png")
        self._last_picture = time.monotonic()


def write_history(path: Path, history: Sequence[EpochRecord | LmEpoch]) -> None:
    """Write a table with one row per epoch, and a column for each field of its record."""
    with atomic_write(path) as stream:
        stream.write(",".join(field.name for field in fields(history[0])) + "\n")
        for record in history:
            values = (f"{value:.6g}" if isinstance(value, float) else f"{value:d}" for value in astuple(record))
            stream.write(",".join(values) + "\n")
