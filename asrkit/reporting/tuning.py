"""What tuning tried, chose and gained, as JSON's own values and in short lines."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.config.yaml_config import to_dict
from asrkit.decoding.confidence import MIN_PHONES, Calibration, fit_calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.tuning import BeamTrial, Point, StoredSet, TunedSearch, left_out_counts
from asrkit.io.atomic import atomic_write
from asrkit.reporting.analysis import phone_reliability
from asrkit.scoring.per import pool
from asrkit.scoring.significance import compare, pool_speakers


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration with the evidence (n, 2) it was fitted to, and which of those phones are `right` (n,)."""

    calibration: Calibration
    evidence: np.ndarray
    right: np.ndarray

    @classmethod
    def on(cls, dev: StoredSet, config: DecodingConfig) -> CalibrationFit:
        """The fit to what the search with these settings finds in a dev set."""
        evidence, right = map(np.concatenate, dev.evidence(config, dev.search(config)))
        return cls(fit_calibration(evidence, right), evidence, right)

    def warnings(self) -> list[str]:
        """A line when too few phones are wrong, or right, to tell what to change in the confidences; else none."""
        num_right, num_phones = int(np.nansum(self.right)), int(np.count_nonzero(~np.isnan(self.right)))
        num_wrong = num_phones - num_right
        if min(num_wrong, num_right) >= MIN_PHONES:
            return []
        few = f"{num_wrong} are wrong" if num_wrong <= num_right else f"{num_right} are right"
        return [
            f"of {num_phones} phones found {few}, and to calibrate confidences takes {MIN_PHONES} (10 for each of its "
            "3 weights): they stay near the uncalibrated odds; tune on more utterances for better ones"
        ]

    def to_dict(self) -> dict[str, Any]:
        """The calibration, and how reliable confidences are after and before it."""
        return {
            **to_dict(self.calibration),
            "after": phone_reliability(self.calibration(self.evidence), self.right),
            "before": phone_reliability(Calibration()(self.evidence), self.right),
        }


def build_tuning(dev: StoredSet, tuned: TunedSearch, fit: CalibrationFit, utt2spk: Mapping[str, str]) -> dict[str, Any]:
    """Every figure of a tuning on `dev`, whose speakers are `utt2spk`."""
    speakers = [utt2spk[utt_id] for utt_id in dev.refs]
    has_others = len(set(speakers)) > 1
    figures = {
        "protocol": dev.protocol.name,
        "winner": to_dict(tuned.config),
        "total": tuned.winner.total.to_dict(),
        "compared": {
            name: _gain(tuned.winner, dev.point(config), dev.refs, utt2spk)
            for name, config in _compared_settings(dev, tuned).items()
        },
        "left_out": pool(left_out_counts(tuned.points, speakers)).to_dict() if has_others else None,
        "beams": [_beam_row(trial) for trial in tuned.trials],
        "calibration": fit.to_dict(),
    }
    return {**figures, "lines": _lines(figures)}


def _compared_settings(dev: StoredSet, tuned: TunedSearch) -> dict[str, DecodingConfig]:
    """What the winner is compared with, by name."""
    greedy = tuned.greedy.config
    with_penalty = {f"greedy search, blank_penalty {greedy.blank_penalty:g}": greedy} if greedy.blank_penalty else {}
    return {
        "greedy search": DecodingConfig(method="greedy"),
        **with_penalty,
        "default settings": DecodingConfig(lm_weight=DecodingConfig().lm_weight if dev.lm else 0.0),
    }


def _gain(winner: Point, other: Point, utt_ids: Iterable[str], utt2spk: Mapping[str, str]) -> dict[str, Any]:
    """What another setting gives, and the winner's PER minus its PER, with paired intervals."""
    per_utt = [dict(zip(utt_ids, point.counts, strict=True)) for point in (winner, other)]
    per_spk = [pool_speakers(counts, utt2spk) for counts in per_utt]
    comparisons = {
        unit: compare([*a.values()], [*b.values()])
        for unit, (a, b) in {"utterances": per_utt, "speakers": per_spk}.items()
    }
    return {
        "total": other.total.to_dict(),
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
    """The figures in short."""
    winner, left_out, fit = figures["winner"], figures["left_out"], figures["calibration"]
    beam = figures["beams"][-1]
    lines = [
        f"lm_weight {winner['lm_weight']:g}, insertion_bonus {winner['insertion_bonus']:g}, beam {winner['beam']}: "
        f"dev PER {figures['total']['per']:.2f} %",
        "settings chosen without the speaker they are counted on: "
        + (f"dev PER {left_out['per']:.2f} %" if left_out else "none (one speaker)"),
    ]
    for name, other in figures["compared"].items():
        lines.append(f"{name}: dev PER {other['total']['per']:.2f} %; tuned minus this: {other['difference']:.2f}")
        lines += [f"  {text}" for text in other["texts"]]
    lines.append(
        f"search errors: {beam['num_below_reference']} of {beam['num_wrong']} wrong utterances score below the "
        f"reference; beam {beam['wider']} would improve scores by changing {beam['num_edits']} of "
        f"{beam['num_phones']} phones, in {beam['num_improved']} of {beam['num_utts']} utterances"
    )
    if not fit["after"]["number"]:
        return [*lines, "confidences: no phones were found to calibrate them on"]
    lines.append(
        f"confidences: expected calibration error {100 * fit['after']['ece']:.2f} % over "
        f"{fit['after']['number']} phones of dev ({100 * fit['before']['ece']:.2f} % before calibration)"
    )
    return lines


def write_surface(path: Path, points: Iterable[Point]) -> None:
    """Write what each setting tried gives as a CSV table."""
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["lm_weight", "insertion_bonus", "beam", "per", "num_ins", "num_del", "num_sub"])
        for point in sorted(points, key=lambda point: (point.config.lm_weight, point.config.insertion_bonus)):
            config, total = point.config, point.total
            settings = config.lm_weight, config.insertion_bonus, config.beam
            writer.writerow([*settings, f"{total.per:.4f}", total.num_ins, total.num_del, total.num_sub])
