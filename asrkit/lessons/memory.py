"""Lesson 4: how much of the past and of the future a network uses to recognise a phone.

The sensitivity of the outputs at one step to the input at another shows how far away an input can be and still count.

Legend: T frames of D features, T' steps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from asrkit.errors import ConfigError
from asrkit.lessons.lesson import Lesson, draw_line, plots
from asrkit.lessons.speech import Speech, phones_at
from asrkit.lessons.trained_model import TrainedModel
from asrkit.scoring.protocols import silences
from asrkit.types import Utterance

DIRECTIONS = ("unidirectional", "bidirectional")
REACH = 80  # frames on each side
MILLISECONDS = 1000


def log_probs(model: TrainedModel, feats: Tensor) -> Tensor:
    """y (N, T', K): natural log-probabilities of the frame-wise outputs if a network has them, otherwise of CTC.

    `feats` is (N, T, D).

    Raises:
        ConfigError: the network has neither.
    """
    output = model.outputs(feats)
    y = output.ctc_log_probs if output.frame_log_probs is None else output.frame_log_probs
    if y is None:
        raise ConfigError("lesson memory: expected models with CTC or frame-wise outputs; found an attention decoder")
    return y


def sensitivity(network: Callable[[Tensor], Tensor], feats: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """S(t, j) = |d y(t) / d x(j)| for each of `steps` t and every frame j of `feats` (T, D): (len(steps), T).

    The norm is the root of the sum of all K D squared derivatives. `network` computes y (N, T', K) for N utterances.
    """
    x = torch.from_numpy(feats)
    num_classes = network(x[None]).shape[2]
    # A backward pass computes the derivatives of one number. K copies of the utterance serve all K outputs at once:
    # copy k is used only for y_k.
    copies = x.repeat(num_classes, 1, 1).requires_grad_()
    y = network(copies)
    rows = []
    for t in steps:
        asked = y[:, t].diagonal().sum()
        (derivatives,) = torch.autograd.grad(asked, copies, retain_graph=True)  # d y_k(t) / d x(j), (K, T, D)
        rows.append(derivatives.square().sum(dim=(0, 2)).sqrt())  # S(t, j)
    return torch.stack(rows).numpy()


@dataclass(frozen=True)
class Reach:
    """How far a network sees. Shares are relative to the total sensitivity within REACH.

    Attributes:
        before, own, after: shares of the frames before the step's own frames, of its own frames, and of frames after
            them.
        half_ms: the distance from the middle of the step within which half of the sensitivity lies.
        past_ms, future_ms: the farthest frame with at least 1 % of the largest sensitivity.
    """

    before: float
    own: float
    after: float
    half_ms: float
    past_ms: float
    future_ms: float


def measure(mean: np.ndarray, own: tuple[int, int], shift: float) -> Reach:
    """Measure the reach.

    Args:
        mean: (2 REACH + 1,) mean sensitivity at offsets -REACH to REACH.
        own: the first and the last offset of the step's own frames.
        shift: seconds from one frame to the next.
    """
    offsets = np.arange(-REACH, REACH + 1)
    shares = mean / mean.sum()
    within = [shares[abs(offsets) <= distance].sum() for distance in range(REACH + 1)]
    seen = offsets[mean >= 0.01 * mean.max()]
    return Reach(
        before=float(shares[offsets < own[0]].sum()),
        own=float(shares[(offsets >= own[0]) & (offsets <= own[1])].sum()),
        after=float(shares[offsets > own[1]].sum()),
        half_ms=float(np.searchsorted(within, 0.5)) * shift * MILLISECONDS,
        past_ms=float(-seen.min()) * shift * MILLISECONDS,
        future_ms=float(seen.max()) * shift * MILLISECONDS,
    )


def mean_sensitivity(model: TrainedModel, utts: Sequence[Utterance], every: int) -> tuple[np.ndarray, int]:
    """S(t, t + k) for k from -REACH to REACH, (2 REACH + 1,): the mean over every `every`-th step of speech.

    Returns also the number of steps.
    """
    total, count, num_steps = np.zeros(2 * REACH + 1), np.zeros(2 * REACH + 1), 0
    for utt in utts:
        feats = model.feats[utt.utt_id]
        phones = phones_at(model.step_times(model.experiment.model.num_steps(len(feats))), utt.phone_times)
        steps = [step for step, phone in enumerate(phones) if not silences([phone])][::every]
        for row, middle in zip(
            sensitivity(partial(log_probs, model), feats, steps), model.middles(steps, len(feats)), strict=True
        ):
            offsets = np.arange(len(row)) - middle
            near = abs(offsets) <= REACH
            total[offsets[near] + REACH] += row[near]
            count[offsets[near] + REACH] += 1
        num_steps += len(steps)
    return total / np.maximum(count, 1), num_steps


def study(quick: bool, speech: Speech) -> Lesson:
    """Make the lesson's table, figures and pictures."""
    models = by_direction(speech)
    utts = speech.utterances()
    num_utts, every = (3, 8) if quick else (12, 4)
    some = utts[:: max(1, len(utts) // num_utts)][:num_utts]
    shortest = min(utts, key=lambda utt: utt.phone_times[-1].end)
    table = [["network", "before, %", "own step, %", "after, %", "half within, ms", "past, ms", "future, ms"]]
    means, maps, reaches = {}, {}, {}
    for name, model in models.items():
        means[name], num_steps = mean_sensitivity(model, some, every)
        middle = (model.config.stack - 1) // 2
        reach = measure(means[name], (-middle, model.config.stack - 1 - middle), model.clock.shift)
        reaches[name] = {**asdict(reach), "num_steps": num_steps}
        shares = [f"{100 * share:.1f}" for share in (reach.before, reach.own, reach.after)]
        table.append([name, *shares, *(f"{each:.0f}" for each in (reach.half_ms, reach.past_ms, reach.future_ms))])
        feats = model.feats[shortest.utt_id]
        maps[name] = sensitivity(partial(log_probs, model), feats, range(model.experiment.model.num_steps(len(feats))))
    shift_ms = models[DIRECTIONS[0]].clock.shift * MILLISECONDS
    offsets_ms = [k * shift_ms for k in range(-REACH, REACH + 1)]
    figures = {
        "utterances": len(some),
        "map_of": shortest.utt_id,
        "reach": reaches,
        "mean": {name: mean.tolist() for name, mean in means.items()},
        "offsets_ms": offsets_ms,
    }
    pictures = {
        "memory-map": draw_maps(models, maps, shortest),
        "memory-mean": draw_means(means, offsets_ms),
    }
    return Lesson(table, figures, pictures)


def by_direction(speech: Speech) -> dict[str, TrainedModel]:
    """The two models by name: one that reads only forwards, and one that reads in both directions.

    Raises:
        ConfigError: the models are others.
    """
    models = [TrainedModel(directory, speech.data) for directory in speech.models]
    named = {DIRECTIONS[model.config.bidirectional]: model for model in models}
    if len(models) != 2 or len(named) != 2:
        found = " and ".join(
            f"{each} ({DIRECTIONS[model.config.bidirectional]})"
            for each, model in zip(speech.models, models, strict=True)
        )
        raise ConfigError(f"lesson memory: expected a unidirectional and a bidirectional --model, found {found}")
    return {name: named[name] for name in DIRECTIONS}


def draw_maps(models: Mapping[str, TrainedModel], maps: Mapping[str, np.ndarray], utt: Utterance) -> Figure:
    """Draw S(t, j) of one utterance as colours. `maps` has (T', T) per model."""
    figure, both = plots(1, 2, height=4.2)
    top = max(each.max() for each in maps.values())
    for axes, (name, model) in zip(both, models.items(), strict=True):
        rows, columns = model.step_times(len(maps[name])), model.frame_times(maps[name].shape[1])
        decibels = 20 * np.log10(np.maximum(maps[name] / top, 1e-3))
        image = axes.pcolormesh(columns, rows, decibels, cmap="cividis", vmin=-60, vmax=0, shading="nearest")
        middles = [(each.start + each.end) / 2 for each in utt.phone_times]
        names = [each.phone for each in utt.phone_times]
        axes.set_xticks(middles, names, fontsize=7)
        axes.set_yticks(middles, names, fontsize=7)
        axes.set(title=name, xlabel=f"input x(j), by its phone; {columns[-1]:.1f} s in all", aspect="equal")
    both[0].set_ylabel("output y(t), by its phone")
    figure.colorbar(image, ax=both, label="sensitivity, dB below its largest", shrink=0.6)
    return figure


def draw_means(means: Mapping[str, np.ndarray], offsets_ms: Sequence[float]) -> Figure:
    """Draw the mean sensitivity, `means` (2 REACH + 1,) per model, over the distance of the input."""
    figure, (axes,) = plots(1, 1, height=3.6)
    top = max(mean.max() for mean in means.values())
    for which, (name, mean) in enumerate(means.items()):
        shown = np.where(mean > 0, 100 * mean / top, np.nan)
        draw_line(axes, offsets_ms, shown, which, name)
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set(
        title="How much the input counts, by its distance",
        xlabel="past     ←     input before or after the output, ms     →     future",
        ylabel="sensitivity, % of its largest",
    )
    axes.legend(frameon=False, loc="upper left")
    return figure
