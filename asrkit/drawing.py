"""Draws pictures of page width with matplotlib: their colours, lines, and curves of gradients. Needs no display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# The colours of Okabe and Ito, which people with any colour vision can tell apart. Lines also differ in their dashes.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")
WIDTH = 7.6  # of a picture, in inches; at 100 dots per inch it is as wide as a page


def plots(num_rows: int, num_columns: int, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """A picture with `num_rows` times `num_columns` plots, and its plots in reading order. `height` per row: inches."""
    figure = Figure(figsize=(WIDTH, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(num_rows, num_columns, squeeze=False)))


def draw_line(
    axes: Axes, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray, which: int, label: str
) -> None:
    """Draw a line through the points `xs`, `ys`, both (points,), in the colour and dashes of the index `which`."""
    axes.plot(xs, ys, color=COLORS[which], linestyle=DASHES[which], label=label)


def draw_norms(axes: Axes, norms: Mapping[str, np.ndarray], last: int) -> None:
    """Draw curves of gradient norms over time, on a logarithmic scale.

    `norms` maps the name of each curve to its values, (steps,). Each curve is divided by its value at the step `last`,
    at which the loss is. From there, gradients flow back in time.
    """
    for which, (name, each) in enumerate(norms.items()):
        draw_line(axes, range(len(each)), each / each[last], which, name)
    axes.set_yscale("log")
