"""Pictures as wide as a page: colors, lines, and norms of gradients. Loads matplotlib, and draws without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any kind of colour vision tell apart; lines differ in their dashes, too.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")
WIDTH = 7.6  # of a picture, in inches; at 100 dots an inch as wide as a page shows it


def plots(num_rows: int, num_columns: int, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A picture with plots in rows, and the plots in reading order; `height` of a row in inches."""
    figure = Figure(figsize=(WIDTH, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(num_rows, num_columns, squeeze=False)))


def draw_line(
    axes: Axes, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, which: int, label: str
) -> None:
    """A line in the colour and dashes of the number `which`."""
    axes.plot(xs, ys, color=COLORS[which], linestyle=DASHES[which], label=label)


def draw_norms(axes: Axes, norms: Mapping[str, np.ndarray], last: int) -> None:
    """Norms of gradients by their names, over their places, on a scale of powers: each 1 at the place `last`.

    That is where the loss is; from there the gradients go back in time.
    """
    for which, (name, each) in enumerate(norms.items()):
        draw_line(axes, range(len(each)), each / each[last], which, name)
    axes.set_yscale("log")
