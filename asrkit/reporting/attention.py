"""A picture of attention: phones over time, below the spectrogram of the recording. Loads matplotlib."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from asrkit.drawing import WIDTH
from asrkit.types import AttentionWeights, Waveform

END = "end"  # label of the last row: the weights with which the decoder ended
_INCHES_A_SECOND, _WIDEST = 1.3, 20.0  # the width of a picture is at least WIDTH
_ROW, _SPECTROGRAM, _MARGINS = 0.165, 1.3, 1.1  # heights in inches: a phone, the spectrogram, everything else
_BAR = 0.15  # width of the colour bar in inches
_RANGE = 65.0  # dB between the loudest point and the lightest grey
_DOTS = 110  # per inch


def attention_figures(piece: AttentionWeights) -> dict[str, Any]:
    """The numbers of the picture as JSON values; weights have five decimals."""
    return {
        "start": round(piece.start, 6),
        "end": round(piece.end, 6),
        "phones": list(piece.phones),
        "times": np.round(piece.times, 6).tolist(),
        "weights": np.round(piece.weights.astype(np.float64), 5).tolist(),
    }


def attention_png(waveform: Waveform, piece: AttentionWeights, title: str) -> bytes:
    """The picture of a piece of the recording `waveform`, as PNG.

    Each head has a plot; there are two plots in a row.
    """
    num_heads, num_rows = piece.weights.shape[:2]
    num_columns = min(num_heads, 2)
    num_tiers = -(-num_heads // num_columns)
    width = min(max(WIDTH, num_columns * _INCHES_A_SECOND * (piece.end - piece.start)), _WIDEST)
    tier = max(_ROW * num_rows, 1.0)
    figure = Figure(figsize=(width, _SPECTROGRAM + num_tiers * tier + _MARGINS), layout="constrained")
    FigureCanvasAgg(figure)
    heights = [_SPECTROGRAM, *[tier] * num_tiers]
    grid = figure.subplots(1 + num_tiers, num_columns, squeeze=False, sharex=True, height_ratios=heights)
    for axes in grid[0]:
        _draw_spectrogram(axes, waveform, piece)
    plots, highest = grid[1:].ravel().tolist(), float(piece.weights.max())
    for number, axes in enumerate(plots):
        if number < num_heads:
            image = _draw_weights(axes, piece, number, highest)
            axes.set_title(f"head {number + 1}" if num_heads > 1 else "", fontsize=9)
        else:
            axes.set_visible(False)
    for axes in plots[num_heads - num_columns : num_heads]:  # the lowest of each column
        axes.tick_params(axis="x", labelbottom=True)
        axes.set(xlabel="time, s", xlim=(piece.start, piece.end))
    bar = {"fraction": 0.4 / width, "aspect": num_tiers * tier / _BAR, "pad": 0.01}
    figure.colorbar(image, ax=plots, label="attention weight", **bar)
    figure.suptitle(title.replace("$", r"\$"), fontsize=10)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DOTS, metadata={"Software": None})
    return stream.getvalue()


def _draw_weights(axes: Axes, piece: AttentionWeights, head: int, highest: float) -> AxesImage:
    """Draw the weights of one head. White is 0, and the darkest blue is `highest`, the largest weight of all heads."""
    rows = [*piece.phones, END]
    left, right = piece.times[0] - piece.step / 2, piece.times[-1] + piece.step / 2
    image = axes.imshow(
        piece.weights[head],
        extent=(left, right, len(rows) - 0.5, -0.5),
        aspect="auto",
        interpolation="nearest",
        cmap="Blues",
        vmin=0.0,
        vmax=highest,
    )
    axes.set_yticks(range(len(rows)), [row.replace("$", r"\$") for row in rows], fontsize=8)
    axes.get_yticklabels()[-1].set_fontstyle("italic")
    axes.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axes.grid(which="minor", axis="y", color="0.85", linewidth=0.5)
    axes.tick_params(axis="y", length=0, which="both")
    axes.set_ylabel("phones found")
    return image


def _draw_spectrogram(axes: Axes, waveform: Waveform, piece: AttentionWeights) -> None:
    """Draw a spectrogram. Its window of 10 ms shows the formants of a voice, but not its harmonics."""
    rate = waveform.sample_rate
    samples = waveform.samples[round(piece.start * rate) : round(piece.end * rate)].astype(np.float64)
    length, shift = max(round(0.01 * rate), 2), max(round(0.0025 * rate), 1)
    padded = np.pad(samples, length // 2 + 1)
    emphasized = padded[1:] - 0.97 * padded[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(emphasized, length)[::shift]
    powers = np.abs(np.fft.rfft(frames * np.hanning(length), 4 * length)) ** 2
    levels = 10 * np.log10(np.maximum(powers, 1e-6))
    axes.imshow(
        levels.T,
        extent=(piece.start, piece.start + len(levels) * shift / rate, 0, rate / 2000),
        origin="lower",
        aspect="auto",
        cmap="Greys",
        vmin=levels.max() - _RANGE,
        vmax=levels.max(),
    )
    axes.set(ylabel="kHz", ylim=(0, min(rate / 2000, 8.0)))
