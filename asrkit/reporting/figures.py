"""Figures as PNG files. They are drawn without a display and without the global state of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asrkit.decoding.tuning import Point
from asrkit.io.atomic import atomic_write
from asrkit.reporting.calibration import Bin


def draw_surface(path: Path, points: Sequence[Point], winner: Point) -> None:
    """Draw the dev PER over language model weight and insertion bonus.

    The figure shows the points that were tried, and the winner. If all points have the same weight, it is a curve over
    the bonus.
    """
    weights = np.array([point.config.lm_weight for point in points])
    bonuses = np.array([point.config.insertion_bonus for point in points])
    pers = np.array([point.total.per for point in points])
    best = f"lm_weight {winner.config.lm_weight:g}, bonus {winner.config.insertion_bonus:g}: {winner.total.per:.2f} %"
    figure, axes = _one_plot()
    if np.ptp(weights):
        # The scale ends at twice the lowest PER. With all higher values in it the valley would be invisible.
        levels = np.linspace(pers.min(), max(min(pers.max(), 2 * pers.min()), pers.min() + 1e-3), 24)
        filled = axes.tricontourf(weights, bonuses, pers, levels=levels, cmap="viridis_r", extend="max")
        figure.colorbar(filled, ax=axes, label="dev PER, %", format="%.1f")
        axes.plot(weights, bonuses, ".", color="0.2", markersize=3, label="tried")
        axes.plot(winner.config.lm_weight, winner.config.insertion_bonus, "*", color="red", markersize=16, label=best)
        axes.set(xlabel="lm_weight", ylabel="insertion_bonus, nats")
    else:
        order = np.argsort(bonuses)
        axes.plot(bonuses[order], pers[order], ".-", color="0.2", label="tried")
        axes.plot(winner.config.insertion_bonus, winner.total.per, "*", color="red", markersize=16, label=best)
        axes.set(xlabel="insertion_bonus, nats", ylabel="dev PER, %")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2, frameon=False)
    _save(figure, path)


def draw_reliability(path: Path, curves: Mapping[str, Sequence[Bin]]) -> None:
    """Draw the share of right phones over the confidence, one curve for each label.

    The area of a dot shows the number of phones in its bin.
    """
    figure, axes = _one_plot()
    axes.plot([0, 1], [0, 1], "--", color="0.6")
    for label, bins in curves.items():
        confidences = [b.confidence for b in bins if b.confidence is not None]
        accuracies = [b.accuracy for b in bins if b.accuracy is not None]
        (line,) = axes.plot(confidences, accuracies, label=label)
        total = sum(b.number for b in bins)
        sizes = [10 + 300 * b.number / total for b in bins if b.number]
        axes.scatter(confidences, accuracies, sizes, color=line.get_color(), alpha=0.6)
    axes.set(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="upper left", frameon=False)
    _save(figure, path)


def _one_plot() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
