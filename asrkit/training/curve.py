"""Figures of a training: the learning curve, and the norms of gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from asrkit.drawing import COLORS, draw_line, draw_norms, plots
from asrkit.io.atomic import atomic_write
from asrkit.training.blank_phase import after_blank_phase
from asrkit.training.gradients import DIRECTIONS, WEIGHTS, Norms, Place
from asrkit.training.state import EpochRecord


def draw_learning_curve(history: Sequence[EpochRecord], path: Path) -> None:
    """Draw losses (left axis) and dev PER (right axis) over the epochs, as PNG. Epochs of pre-training are shaded."""
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


def draw_gradients(epochs: Mapping[int, Norms], path: Path) -> None:
    """Draw gradient norms as PNG: by lag in each direction after the last epoch, and of weights over the epochs.

    If there are more parts than colours, some layers between the first and the last are left out.
    """
    last = epochs[max(epochs)]
    parts = list(dict.fromkeys(place.part for place in last))
    if len(parts) > len(COLORS):
        parts = [parts[number] for number in np.linspace(0, len(parts) - 1, len(COLORS)).round().astype(int)]
    directions = [of for of in DIRECTIONS if any(place.of == of for place in last)]
    figure, all_axes = plots(1, len(directions) + 1, height=4.2)
    for of, axes in zip(directions, all_axes, strict=False):
        draw_norms(axes, {part: last[Place(part, of)] for part in parts if Place(part, of) in last}, last=0)
        axes.set(title=f"{of.capitalize()}, epoch {max(epochs)}", xlabel="lag, steps")
        axes.sharey(all_axes[0])
    if directions:
        all_axes[0].set_ylabel("|dL(T) / dh(T - lag)|, 1 at lag 0")
    weights = all_axes[-1]
    for which, part in enumerate(parts):
        own = [float(norms.get(Place(part, WEIGHTS), [np.nan])[0]) for norms in epochs.values()]
        draw_line(weights, [*epochs], own, which, part)
    weights.set(title="Weights", xlabel="epoch", ylabel="|dL / dw|", yscale="log")
    weights.xaxis.set_major_locator(MaxNLocator(integer=True))
    weights.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    weights.yaxis.set_major_formatter("{x:g}")
    weights.yaxis.set_minor_formatter(NullFormatter())
    handles, labels = weights.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})
