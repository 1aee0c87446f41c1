"""The results of tuning (trials, choice and gain), as JSON values and as short lines."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.config.yaml_config import to_dict
from asrkit.decoding.confidence import MIN_PHONES, Calibration, fit_calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.tuning import BeamTrial, Fold, LeftOut, Point, StoredSet, TunedSearch, count_left_out
from asrkit.io.atomic import atomic_write
from asrkit.reporting.analysis import phone_reliability
from asrkit.scoring.per import Counts, pool
from asrkit.scoring.significance import compare, intervals, pool_speakers, to_json

_ELSEWHERE = 1 / 3  # weight of a phone under other conditions; most audio will resemble dev


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration of confidences, and the phones that it was fitted to.

    Attributes:
        calibration: the fitted calibration.
        evidence: per utterance, (U, 4) evidence of its phones.
        right: per utterance, (U,) 1 for right phones, 0 for wrong ones, NaN for phones that are not scored.
        elsewhere: evidence and right of the same utterances under other conditions (rooms, noise, codecs, speeds). The
            calibration was fitted to them, too. Both are empty if there are none.
    """

    calibration: Calibration
    evidence: Sequence[np.ndarray]
    right: Sequence[np.ndarray]
    elsewhere: tuple[Sequence[np.ndarray], Sequence[np.ndarray]] = ((), ())

    @classmethod
    def on(cls, dev: StoredSet, elsewhere: StoredSet | None, config: DecodingConfig) -> CalibrationFit:
        """Fit a calibration to the results of a search with `config` on a dev set, also under other conditions if there
        are any.
        """
        evidence, right = dev.evidence(config, dev.search(config))
        others = elsewhere.evidence(config, elsewhere.search(config)) if elsewhere else ([], [])
        return cls(_fit(evidence, right, others), evidence, right, others)

    def left_out(self, left_out: LeftOut) -> dict[str, Any]:
        """Cross-validate the calibration.

        The confidences of each speaker come from a calibration that was fitted to the other speakers. The result says
        how reliable they are.
        """
        confidences, right = [], []
        for fold in left_out.folds:
            others = np.setdiff1d(np.arange(len(self.right)), fold.members)
            evidence, of_these, *elsewhere = (
                [rows[i] for i in others] if rows else [] for rows in (self.evidence, self.right, *self.elsewhere)
            )
            calibration = _fit(evidence, of_these, elsewhere)
            confidences += [calibration(self.evidence[i]) for i in fold.members]
            right += [self.right[i] for i in fold.members]
        return phone_reliability(np.concatenate(confidences), np.concatenate(right))

    def warnings(self) -> list[str]:
        """A warning line if too few phones are wrong, or too few are right, to fit a calibration. Otherwise no line."""
        right = np.concatenate([*self.right, *self.elsewhere[1]])
        num_right, num_wrong = (int(np.count_nonzero(right == outcome)) for outcome in (1, 0))
        if min(num_wrong, num_right) >= MIN_PHONES:
            return []
        few = f"{num_wrong} are wrong" if num_wrong <= num_right else f"{num_right} are right"
        return [
            f"of {num_right + num_wrong} phones found {few}, and to calibrate confidences takes {MIN_PHONES} (10 for "
            "each of its 5 weights): they stay near the uncalibrated odds; tune on more utterances for better ones"
        ]

    def to_dict(self) -> dict[str, Any]:
        """The calibration for JSON, and how reliable confidences are.

        "before" and "after" are without and with the calibration; "elsewhere" is under other conditions.
        """
        evidence, right = np.concatenate(self.evidence), np.concatenate(self.right)
        return {
            **to_dict(self.calibration),
            "after": phone_reliability(self.calibration(evidence), right),
            "before": phone_reliability(Calibration()(evidence), right),
            "elsewhere": self._reliability_elsewhere(),
        }

    def _reliability_elsewhere(self) -> dict[str, Any] | None:
        if not self.elsewhere[0]:
            return None
        evidence, right = map(np.concatenate, self.elsewhere)
        return phone_reliability(self.calibration(evidence), right)


def _fit(
    evidence: Sequence[np.ndarray], right: Sequence[np.ndarray], elsewhere: Sequence[Sequence[np.ndarray]]
) -> Calibration:
    """Fit a calibration to some utterances. The phones `elsewhere` have a smaller weight."""
    counts = [len(rows) * [count] for each, count in ((right, 1.0), (elsewhere[1], _ELSEWHERE)) for rows in each]
    return fit_calibration(
        np.concatenate([*evidence, *elsewhere[0]]), np.concatenate([*right, *elsewhere[1]]), np.concatenate(counts)
    )


def build_tuning(
    dev: StoredSet, tuned: TunedSearch, left_out: LeftOut | None, fit: CalibrationFit, utt2spk: Mapping[str, str]
) -> dict[str, Any]:
    """Gather all figures of a tuning on `dev` as JSON values.

    The settings were chosen on dev, so their errors on dev are too optimistic. Gains and intervals therefore come from
    cross-validation: each speaker is scored with settings that were chosen without that speaker (`left_out`).

    Args:
        dev, tuned: the dev set and the settings chosen on it.
        left_out: settings chosen without each speaker; None if that is impossible (one utterance).
        fit: the calibration of confidences.
        utt2spk: utterance id -> speaker.
    """
    figures = {
        "protocol": dev.protocol.name,
        "winner": to_dict(tuned.config),
        "total": tuned.winner.total.to_dict(),
        "left_out": _left_out(dev, left_out, fit, utt2spk) if left_out else None,
        "compared": _compared(dev, tuned, left_out, utt2spk) if left_out else {},
        "beams": [_beam_row(trial) for trial in tuned.trials],
        "calibration": fit.to_dict(),
    }
    return {**figures, "lines": _lines(figures)}


def _left_out(dev: StoredSet, left_out: LeftOut, fit: CalibrationFit, utt2spk: Mapping[str, str]) -> dict[str, Any]:
    """The errors on dev with cross-validated settings, with intervals."""
    counts = dict(zip(dev.refs, count_left_out(dev, left_out), strict=True))
    found = intervals(counts, utt2spk)
    return {
        "unit": left_out.unit,
        "num_units": left_out.num_units,
        "num_folds": len(left_out.folds),
        "winners": [to_dict(replace(fold.config, blank_penalty=fold.greedy.blank_penalty)) for fold in left_out.folds],
        "total": pool(counts.values()).to_dict(),
        "intervals": to_json(found),
        "texts": [interval.text(unit) for unit, interval in found.items()],
        "calibration": fit.left_out(left_out),
    }


def _compared(dev: StoredSet, tuned: TunedSearch, left_out: LeftOut, utt2spk: Mapping[str, str]) -> dict[str, Any]:
    """The PER of other settings by name, and the tuned PER minus theirs, with paired intervals.

    All figures are cross-validated. So are the other settings, where they were chosen on dev.
    """
    plain = DecodingConfig(method="greedy")
    default = DecodingConfig(lm_weight=DecodingConfig().lm_weight if dev.lm else 0.0)
    penalty = tuned.greedy.config.blank_penalty
    others: dict[str, Callable[[Fold], DecodingConfig]] = {
        "greedy search": lambda _: plain,
        **({f"greedy search, blank_penalty {penalty:g}": lambda fold: fold.greedy} if penalty else {}),
        "default settings": lambda _: default,
    }
    ours = count_left_out(dev, left_out)
    return {
        name: _gain(dev, ours, count_left_out(dev, left_out, config_of), utt2spk) for name, config_of in others.items()
    }


def _gain(
    dev: StoredSet, ours: Sequence[Counts], others: Sequence[Counts], utt2spk: Mapping[str, str]
) -> dict[str, Any]:
    """The PER of other settings, and our PER minus theirs, with paired intervals."""
    per_utt = [dict(zip(dev.refs, counts, strict=True)) for counts in (ours, others)]
    per_spk = [pool_speakers(counts, utt2spk) for counts in per_utt]
    comparisons = {
        unit: compare([*a.values()], [*b.values()])
        for unit, (a, b) in {"utterances": per_utt, "speakers": per_spk}.items()
    }
    return {
        "total": pool(others).to_dict(),
        "difference": comparisons["utterances"].difference,
        "intervals": {unit: comparison.interval.to_dict() for unit, comparison in comparisons.items()},
        "texts": [comparison.interval.text(unit) for unit, comparison in comparisons.items()],
    }


def _beam_row(trial: BeamTrial) -> dict[str, Any]:
    return {
        "beam": trial.point.config.beam,
        "per": trial.point.total.to_dict()["per"],
        "wider": trial.wider,
        "num_utts": len(trial.point.counts),
        **asdict(trial.gain),
        "num_wrong": trial.num_wrong,
        "num_below_reference": trial.num_below_reference,
    }


def _lines(figures: Mapping[str, Any]) -> list[str]:
    """The figures as short lines."""
    winner, left_out, fit = figures["winner"], figures["left_out"], figures["calibration"]
    beam = figures["beams"][-1]
    lines = [
        f"lm_weight {winner['lm_weight']:g}, insertion_bonus {winner['insertion_bonus']:g}, beam {winner['beam']}: "
        f"dev PER {figures['total']['per']:.2f} % (optimistic: they were chosen on dev)"
    ]
    if left_out is None:
        lines.append("left out of the choice: none (one utterance)")
    else:
        lines.append(f"{_who(left_out)} left out of the choice: dev PER {left_out['total']['per']:.2f} %")
        lines += [f"  {text}" for text in left_out["texts"]]
    for name, other in figures["compared"].items():
        lines.append(f"{name}: dev PER {other['total']['per']:.2f} %; left out minus this: {other['difference']:.2f}")
        lines += [f"  {text}" for text in other["texts"]]
    lines.append(
        f"search errors: {beam['num_below_reference']} of {beam['num_wrong']} wrong utterances score below the "
        f"reference; beam {beam['wider']} would improve scores by changing {beam['num_edits']} of "
        f"{beam['num_phones']} phones, in {beam['num_improved']} of {beam['num_utts']} utterances"
    )
    if not fit["after"]["number"]:
        return [*lines, "confidences: no phones were found to calibrate them on"]
    of_left_out = f"; {_percent(left_out['calibration']['ece'])} of {_who(left_out)} left out" if left_out else ""
    lines.append(
        f"confidences: expected calibration error {_percent(fit['after']['ece'])} over {fit['after']['number']} phones "
        f"of dev, which they were calibrated on{of_left_out}; {_percent(fit['before']['ece'])} before calibration"
    )
    if elsewhere := fit["elsewhere"]:
        lines.append(
            f"  in rooms, noise, codecs and at other speeds: {_percent(elsewhere['ece'])} over {elsewhere['number']} "
            "phones, which they were calibrated on, too"
        )
    return lines


def _who(left_out: Mapping[str, Any]) -> str:
    unit, number, num_folds = left_out["unit"], left_out["num_units"], left_out["num_folds"]
    return f"{unit}{' (there is one speaker)' if unit == 'utterances' else ''}" + (
        f" in {num_folds} groups" if num_folds < number else ""
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def write_surface(path: Path, points: Iterable[Point]) -> None:
    """Write the errors of each trial as a CSV table."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["lm_weight", "insertion_bonus", "beam", "per", "num_ins", "num_del", "num_sub"])
        for point in sorted(points, key=lambda point: (point.config.lm_weight, point.config.insertion_bonus)):
            config, total = point.config, point.total
            settings = config.lm_weight, config.insertion_bonus, config.beam
            writer.writerow([*settings, f"{total.per:.4f}", total.num_ins, total.num_del, total.num_sub])
