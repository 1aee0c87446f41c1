"""Lesson 5: from frames to phones.

It compares frame-wise labels with CTC, shows how CTC's labels are collapsed, and compares searches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from asrkit.audio.access import AudioAccess
from asrkit.errors import ConfigError
from asrkit.lessons.ctc import (
    BLANK,
    Labels,
    Prefix,
    beam_search,
    best_path,
    by_enumeration,
    collapse,
    merge_repeats,
    probability,
)
from asrkit.lessons.lesson import COLORS, WIDTH, Lesson, plots
from asrkit.lessons.speech import Speech
from asrkit.lessons.trained_model import TrainedModel
from asrkit.scoring.align import align
from asrkit.scoring.per import count_pairs, pool
from asrkit.types import PhoneTime, Utterance

LATTICE = np.array([[0.5, 0.4, 0.1], [0.1, 0.5, 0.4], [0.5, 0.1, 0.4]])  # y (T, K) of the small example
NAMES = "-ab"  # the names of its classes
WIDTH_OF_EXAMPLE, WIDTHS = 3, (1, 3, 10)  # widths of beams


@dataclass(frozen=True)
class Heard:
    """The outputs of the network for an utterance.

    Attributes:
        frame_wise: (T', K) probabilities; that of the blank is 0.
        ctc: (T', K) probabilities.
        reference: the phones of the utterance.
    """

    utt: Utterance
    frame_wise: np.ndarray
    ctc: np.ndarray
    reference: Labels


def listen(model: TrainedModel, utt: Utterance) -> Heard:
    """Run the network on an utterance.

    Raises:
        ConfigError: the network does not have both kinds of outputs.
    """
    with torch.inference_mode():
        output = model.outputs(torch.from_numpy(model.feats[utt.utt_id])[None])
    if output.ctc_log_probs is None or output.frame_log_probs is None:
        raise ConfigError("lesson phones: expected a model with CTC and frame-wise outputs (model.head both)")
    ctc, frame_wise = (
        log_probs[0].double().exp().numpy() for log_probs in (output.ctc_log_probs, output.frame_log_probs)
    )
    reference = tuple(model.experiment.tokens.encode(utt.phones, f"{utt.utt_id}: "))
    return Heard(utt, np.pad(frame_wise, ((0, 0), (1, 0))), ctc, reference)


def study(quick: bool, speech: Speech) -> Lesson:
    """Make the lesson's table, figures and pictures.

    Raises:
        ConfigError: there is not exactly one model.
    """
    if len(speech.models) != 1:
        raise ConfigError(f"lesson phones: expected one --model, found {len(speech.models)}")
    model = TrainedModel(speech.models[0], speech.data)
    utts = speech.utterances()
    heard = [listen(model, utt) for utt in (utts[:: max(1, len(utts) // 30)] if quick else utts)]
    example = choose_example(heard)
    names = ("-", *model.experiment.tokens.phones)
    rows, errors = compare_searches(heard, names)
    figures = {
        "utterance": tell(example, names),
        "blank_share": float(np.mean(np.concatenate([each.ctc.argmax(axis=1) == BLANK for each in heard]))),
        "lattice": tell_lattice(),
        "searches": errors,
    }
    pictures = {
        "phones-posteriors": draw_posteriors(model, example, names),
        "phones-collapse": draw_collapse(model, example, names),
        "phones-beam": draw_beam(),
    }
    return Lesson(rows, figures, pictures)


def choose_example(heard: Sequence[Heard]) -> Heard:
    """The shortest utterance whose CTC best path is right; if possible, one with two equal phones in a row."""
    right = [each for each in heard if collapse(best_path(each.ctc)) == each.reference] or [*heard]
    doubled = [each for each in right if merge_repeats(each.reference) != each.reference]
    return min(doubled or right, key=lambda each: len(each.ctc))


def tell(heard: Heard, names: Sequence[str]) -> dict[str, str]:
    """The labels of an utterance at each stage, as text."""
    frame_path, path = best_path(heard.frame_wise), best_path(heard.ctc)
    stages = {
        "reference": heard.reference,
        "frame_wise_path": frame_path,
        "frame_wise_merged": merge_repeats(frame_path),
        "ctc_path": path,
        "ctc_merged": merge_repeats(path),
        "ctc_labels": collapse(path),
    }
    return {"utt": heard.utt.utt_id, **{stage: spell(labels, names) for stage, labels in stages.items()}}


def spell(labels: Sequence[int], names: Sequence[str]) -> str:
    """Labels as names, with spaces between them."""
    return " ".join(names[label] for label in labels)


def compare_searches(
    heard: Sequence[Heard], names: Sequence[str]
) -> tuple[list[list[str]], dict[str, dict[str, object]]]:
    """Evaluate each way from outputs to phones on all utterances. Returns rows of a table, and figures.

    Where a hypothesis h is wrong, P(reference) > P(h) means a search error: the model prefers the right labels, and a
    better search would not have found h. Otherwise it is a model error: the model prefers wrong labels.
    """
    found = {"frame-wise, repeats merged": [merge_repeats(best_path(each.frame_wise)) for each in heard]}
    found["CTC, greedy"] = [collapse(best_path(each.ctc)) for each in heard]
    for width in WIDTHS:
        found[f"CTC, beam of {width}"] = [beam_search(each.ctc, width)[-1][0].labels for each in heard]
    rows = [["from outputs to phones", "PER, %", "wrong", "search at fault", "model at fault"]]
    figures: dict[str, dict[str, object]] = {}
    for name, hypotheses in found.items():
        pairs = [*zip(heard, hypotheses, strict=True)]
        counts = pool(
            count_pairs(align(spell(each.reference, names).split(), spell(h, names).split())) for each, h in pairs
        )
        wrong = [(each, h) for each, h in pairs if h != each.reference]
        figures[name] = {"per": counts.per, "num_wrong": len(wrong), "num_utts": len(heard)}
        row = [name, f"{counts.per:.2f}", f"{len(wrong)} of {len(heard)}", "", ""]
        if "CTC" in name:
            scores = [(each, h, probability(each.ctc, each.reference), probability(each.ctc, h)) for each, h in wrong]
            of_search = [score for score in scores if score[2] > score[3] * (1 + 1e-9)]  # P(reference) > P(h)
            of_model = [score for score in scores if score not in of_search]
            row[3:] = [str(len(of_search)), str(len(of_model))]
            figures[name] |= {"search_errors": len(of_search), "model_errors": len(of_model)}
            for kind, some in (("search_error", of_search), ("model_error", of_model)):
                figures[name] |= (
                    {kind: tell_scores(*min(some, key=lambda score: len(score[0].ctc)), names)} if some else {}
                )
        rows.append(row)
    return rows, figures


def tell_scores(
    heard: Heard, hypothesis: Labels, of_reference: float, of_hypothesis: float, names: Sequence[str]
) -> dict[str, object]:
    """The labels and log probabilities of a reference and a hypothesis."""
    return {
        "utt": heard.utt.utt_id,
        "reference": spell(heard.reference, names),
        "hypothesis": spell(hypothesis, names),
        "log_p_reference": float(np.log(of_reference)) if of_reference else None,
        "log_p_hypothesis": float(np.log(of_hypothesis)),
    }


def tell_lattice() -> dict[str, object]:
    """What greedy search, beams of 1 to WIDTH_OF_EXAMPLE and enumeration find in LATTICE, and the steps of a beam."""
    greedy = collapse(best_path(LATTICE))
    steps = beam_search(LATTICE, WIDTH_OF_EXAMPLE)
    return {
        "y": LATTICE.tolist(),
        "best_path": name_labels(best_path(LATTICE)),
        "greedy": {"labels": name_labels(greedy), "probability": probability(LATTICE, greedy)},
        "beams": {
            str(width): name_labels(beam_search(LATTICE, width)[-1][0].labels)
            for width in range(1, WIDTH_OF_EXAMPLE + 1)
        },
        "steps": [[[name_labels(each.labels), each.in_blank, each.in_label] for each in ranked] for ranked in steps],
        "enumeration": {name_labels(labels): sum(paths.values()) for labels, paths in by_enumeration(LATTICE).items()},
    }


def name_labels(labels: Sequence[int]) -> str:
    """Labels of the small example as text."""
    return "".join(NAMES[label] for label in labels) or "∅"


def spectrogram(utt: Utterance, sample_rate: int) -> tuple[np.ndarray, float]:
    """The energy in dB, (frequencies, frames), of windows of 25 ms every 10 ms, and the duration in seconds."""
    audio = AudioAccess().load(utt.audio, sample_rate=sample_rate, start=utt.start, end=utt.end)
    length, shift = sample_rate * 25 // 1000, sample_rate * 10 // 1000
    pieces = np.lib.stride_tricks.sliding_window_view(audio.samples, length)[::shift] * np.hanning(length)
    energies = abs(np.fft.rfft(pieces)).T ** 2
    return 10 * np.log10(energies + 1), audio.duration


def colors_of(heard: Heard) -> dict[int, str]:
    """A colour for each class that is the best one at some step, or in the reference. The blank is grey."""
    labels = dict.fromkeys([*heard.reference, *best_path(heard.frame_wise), *best_path(heard.ctc)])
    colors = {label: COLORS[which % 6] for which, label in enumerate(label for label in labels if label != BLANK)}
    return {**colors, BLANK: "0.88"}


def draw_posteriors(model: TrainedModel, heard: Heard, names: Sequence[str]) -> Figure:
    """Draw both kinds of outputs over the spectrogram, with the true phones above."""
    sample_rate = model.features.sample_rate
    energies, seconds = spectrogram(heard.utt, sample_rate)
    figure, panels = plots(2, 1, height=2.9)
    for axes, y, title in zip(
        panels, (heard.frame_wise, heard.ctc), ("frame-wise outputs", "CTC outputs; dotted: the blank"), strict=True
    ):
        extent = (0, seconds, 0, sample_rate / 2000)
        low = float(np.percentile(energies, 40))
        axes.imshow(
            energies,
            cmap="Greys",
            vmin=low,
            vmax=1.5 * energies.max() - 0.5 * low,
            origin="lower",
            aspect="auto",
            extent=extent,
        )
        axes.set(title=title, ylabel="frequency, kHz", xlim=(0, seconds))
        over = axes.twinx()
        over.set(ylabel="probability", ylim=(0, 1.12))
        draw_outputs(over, model.step_times(len(y)), y, colors_of(heard), names)
        mark_phones(axes, heard.utt.phone_times)
    panels[-1].set_xlabel("time, s; above: the phones that were spoken, and where each begins and ends")
    return figure


def draw_outputs(
    axes: Axes, seconds: np.ndarray, y: np.ndarray, colors: Mapping[int, str], names: Sequence[str]
) -> None:
    """Draw a line for each class whose probability exceeds 0.5, with its name at its peaks. The blank is dotted.

    `seconds` is (T',), and `y` (T', K).
    """
    for label in np.flatnonzero(y.max(axis=0) > 0.5).tolist():
        if label == BLANK:
            axes.plot(seconds, y[:, label], ":", color="black", linewidth=1.4)
            continue
        axes.plot(seconds, y[:, label], color=colors[label], linewidth=1.6)
        for is_high, steps in groupby(range(len(y)), key=lambda t: y[t, label] > 0.5):
            if is_high:
                peak = max(steps, key=lambda t: y[t, label])
                axes.text(seconds[peak], 1.03, names[label], ha="center", color=colors[label], fontweight="bold")


def mark_phones(axes: Axes, times: Sequence[PhoneTime]) -> None:
    """Mark where phones end, and write their names above."""
    for each in times:
        axes.axvline(each.end, color="0.4", linewidth=0.6, linestyle="--")
    above = axes.secondary_xaxis("top")
    above.set_xticks([(each.start + each.end) / 2 for each in times], [each.phone for each in times], fontsize=8)
    above.tick_params(length=0)


def draw_collapse(model: TrainedModel, heard: Heard, names: Sequence[str]) -> Figure:
    """Draw the labels of an utterance at each stage, over time."""
    seconds, half = model.step_times(len(heard.ctc)), model.clock.step / 2
    frame_path, path = best_path(heard.frame_wise), best_path(heard.ctc)
    spans = [(names.index(each.phone), each.start, each.end) for each in heard.utt.phone_times]
    rows = {
        "spoken": spans,
        "frame-wise: each step's best": [
            (label, t - half, t + half) for label, t in zip(frame_path, seconds, strict=True)
        ],
        "repeats merged": runs(frame_path, seconds, half),
        "CTC: each step's best": [(label, t - half, t + half) for label, t in zip(path, seconds, strict=True)],
        "repeats merged ": runs(path, seconds, half),
        "blanks removed": [each for each in runs(path, seconds, half) if each[0] != BLANK],
    }
    figure, (axes,) = plots(1, 1, height=3.0)
    colors, total = colors_of(heard), max(heard.utt.phone_times[-1].end, seconds[-1] + half)
    for row, boxes in enumerate(rows.values()):
        for label, start, end in boxes:
            axes.barh(row, end - start, left=start, height=0.8, color=colors[label], edgecolor="white", alpha=0.5)
            if end - start > 0.01 * total * len(names[label]):  # otherwise its name does not fit
                axes.text((start + end) / 2, row, names[label], ha="center", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [*rows])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set(title="From steps to phones", xlabel="time, s")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def runs(path: Labels, seconds: np.ndarray, half: float) -> list[tuple[int, float, float]]:
    """Each run of equal labels, with its start and end in seconds. `seconds` (T',) are the middles of the steps."""
    found = []
    for label, steps in groupby(range(len(path)), key=lambda t: path[t]):
        places = [*steps]
        found.append((label, seconds[places[0]] - half, seconds[places[-1]] + half))
    return found


def draw_beam() -> Figure:
    """Draw the lattice, the probability of each labelling, and the steps of the beam search."""
    figure = Figure(figsize=(WIDTH, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.9), height_ratios=(1, 1.6))
    draw_lattice(figure.add_subplot(grid[0, 0]))
    draw_labelings(figure.add_subplot(grid[1, 0]))
    draw_steps(figure.add_subplot(grid[:, 1]), beam_search(LATTICE, WIDTH_OF_EXAMPLE))
    return figure


def draw_lattice(axes: Axes) -> None:
    """Draw the outputs of the small example."""
    axes.imshow(LATTICE.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (t, label), value in np.ndenumerate(LATTICE):
        is_best = label == best_path(LATTICE)[t]
        axes.text(t, label, f"{value:.1f}", ha="center", va="center", fontweight="bold" if is_best else "normal")
    axes.set_xticks(range(len(LATTICE)), [str(t) for t in range(1, len(LATTICE) + 1)])
    axes.set_yticks(range(len(NAMES)), [*NAMES])
    axes.set(title="outputs y(t, k); bold: best path", xlabel="step t", ylabel="class k")
    axes.title.set_fontsize(10)


def draw_labelings(axes: Axes) -> None:
    """Draw the probabilities of the best labellings, path by path."""
    some = [*by_enumeration(LATTICE).items()][:5]
    for row, (_, paths) in enumerate(some):
        ends = np.cumsum([*paths.values()])
        for path, share, end in zip(paths, paths.values(), ends, strict=True):
            color = COLORS[1] if path == best_path(LATTICE) else COLORS[5]
            axes.barh(row, share, left=end - share, color=color, edgecolor="white")
            if share > 0.06:
                axes.text(
                    end - share / 2, row, "".join(NAMES[label] for label in path), ha="center", va="center", fontsize=7
                )
    axes.set_yticks(range(len(some)), [name_labels(labels) for labels, _ in some])
    axes.invert_yaxis()
    axes.set(title="labellings, sums of paths", xlabel="probability", ylabel="labelling")
    axes.title.set_fontsize(10)


def draw_steps(axes: Axes, steps: Sequence[Sequence[Prefix]]) -> None:
    """Draw the prefixes after each step: whether they are kept, and from which prefixes they come."""
    places: Mapping[Labels, int] = {(): 0}
    axes.text(0, 0, "∅\n1", ha="center", va="center", bbox={"boxstyle": "round", "facecolor": "white"})
    for t, ranked in enumerate(steps, start=1):
        is_last = t == len(steps)
        for row, prefix in enumerate(ranked):
            is_kept = row < (1 if is_last else WIDTH_OF_EXAMPLE)
            for origin in (prefix.labels, prefix.labels[:-1]):
                if origin in places and (origin != prefix.labels or prefix.labels in places):
                    axes.plot(
                        [t - 0.76, t - 0.24],
                        [places[origin], row],
                        color=COLORS[0] if is_kept else "0.8",
                        linewidth=1.5 if is_kept else 0.8,
                    )
            face, text = ("#cfe8f7", "black") if is_kept else ("white", "0.5")
            label = f"{name_labels(prefix.labels)}\n{prefix.probability:.3f}"
            box = {"boxstyle": "round", "facecolor": face, "edgecolor": text}
            axes.text(t, row, label, ha="center", va="center", color=text, fontsize=8, bbox=box)
        places = {prefix.labels: row for row, prefix in enumerate(ranked[:WIDTH_OF_EXAMPLE])}
    axes.set_xticks(range(len(steps) + 1), ["start", *(f"step {t}" for t in range(1, len(steps) + 1))])
    axes.set_yticks([])
    axes.set(xlim=(-0.35, len(steps) + 0.35), ylim=(max(map(len, steps)) - 0.4, -0.6))
    axes.set_title(f"beam search, B = {WIDTH_OF_EXAMPLE}; blue: kept, and at the end the result", fontsize=10)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
