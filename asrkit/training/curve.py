"""The learning curve as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asrkit.io.atomic import atomic_write
from asrkit.training.blank_phase import after_blank_phase
from asrkit.training.state import EpochRecord


def draw_learning_curve(history: Sequence[EpochRecord], path: Path) -> None:
    """Losses (left axis) and dev PER (right axis) over the epochs, as PNG. Shaded: epochs of pre-training."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    left = figure.add_subplot(xlabel="epoch", ylabel="loss (nats)")
    right = left.twinx()
    epochs = [record.epoch for record in history]
    left.plot(epochs, [record.train_loss for record in history], "C0.-", label="training loss")
    left.plot(epochs, [record.dev_loss for record in history], "C1.-", label="dev loss")
    right.plot(epochs, [record.dev_per for record in history], "C2.--", label="dev PER")
    right.set_ylabel("PER (%)")
    left.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.grid(alpha=0.3)
    pretraining = [record.epoch for record in history if record.phase == 0]
    if pretraining:
        left.axvspan(pretraining[0] - 0.5, pretraining[-1] + 0.5, color="0.9", label="pre-training on frames")
    second = [record.epoch for record in history if record.phase == 2]
    if second:
        left.axvline(second[0] - 0.5, color="0.5", linestyle=":", label="weight noise begins")
    listening = after_blank_phase(record for record in history if record.phase > 0)
    best = min(listening, key=lambda record: record.dev_per, default=None)
    if best:
        right.annotate(
            f"{best.dev_per:.2f} %", (best.epoch, best.dev_per), (0, 6), textcoords="offset points", ha="right"
        )
    handles = [handle for axes in (left, right) for handle in axes.get_legend_handles_labels()[0]]
    right.legend(handles=handles, loc="upper right")
    with atomic_write(path, "wb") as stream:
        FigureCanvasAgg(figure).print_png(stream)
