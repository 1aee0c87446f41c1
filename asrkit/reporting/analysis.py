"""Analysis of a beam search.

It answers three questions. Which errors come from the search, and which from the model? What would wider beams find?
How reliable are the confidences? As in text.py, one function gathers all figures as JSON values, another renders them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from asrkit.config.yaml_config import to_dict
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import WIDEST_BEAM, DecodingConfig
from asrkit.decoding.search_errors import Labeling, ScorePair
from asrkit.decoding.tuning import Point, StoredSet
from asrkit.reporting.calibration import expected_calibration_error, reliability
from asrkit.reporting.text import format_table
from asrkit.scoring.per import pool

_CLASSES = ("search errors", "model errors")


def wider_points(data: StoredSet, config: DecodingConfig) -> Iterator[tuple[Point, list[Labeling]]]:
    """Search with beams of 2, 4, 8 and 16 times the width; yield each beam's settings, errors and results.

    The beam of twice the width is always tried, up to WIDEST_BEAM. Wider ones are tried up to `data.widest_beam`.
    """
    for factor in (2, 4, 8, 16):
        beam = min(factor * config.beam, WIDEST_BEAM)
        if beam == config.beam or (factor > 2 and beam > data.widest_beam):
            return
        wider = replace(config, beam=beam)
        hyps = data.search(wider)
        yield Point(wider, data.count(hyps)), hyps


def build_analysis(
    data: StoredSet,
    config: DecodingConfig,
    hyps: Sequence[Labeling],
    wider: Sequence[tuple[Point, Sequence[Labeling]]],
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Gather all figures of the analysis of `hyps`, which a search with `config` found in `data`.

    Shares are between 0 and 1. `wider` comes from `wider_points`. Without a `calibration`, confidences are
    uncalibrated.
    """
    point = Point(config, data.count(hyps))
    pairs = data.compare_with_references(point, hyps)
    evidence, right = data.evidence(config, hyps)
    confidences = [(calibration or Calibration())(rows) for rows in evidence]
    return {
        "settings": to_dict(config),
        "protocol": data.protocol.name,
        "line": point.total.line(),
        "num_utts": len(data.refs),
        "num_wrong": len(pairs),
        "classes": [_class_row(name, point, pairs) for name in _CLASSES],
        "num_impossible": sum(pair.second == -np.inf for pair in pairs),
        "wider": [
            {
                "beam": wide.config.beam,
                "per": wide.total.to_dict()["per"],
                **asdict(data.gain(config, hyps, wide_hyps)),
                "num_errors": wide.total.num_errors - point.total.num_errors,
            }
            for wide, wide_hyps in wider
        ],
        "confidence": {
            "calibrated": calibration is not None,
            "phones": phone_reliability(np.concatenate(confidences), np.concatenate(right)),
            "utterances": _utterance_reliability(confidences, right),
        },
        "utts": [_utterance_row(utt_id, point, pair) for utt_id, pair in _named(data, pairs)],
    }


def _class_of(pair: ScorePair) -> str:
    """Whether the search or the model caused the errors of an utterance."""
    return "search errors" if pair.second_is_better else "model errors"


def _class_row(name: str, point: Point, pairs: Sequence[ScorePair]) -> dict[str, Any]:
    members = [pair for pair in pairs if _class_of(pair) == name]
    counts = pool(point.counts[pair.index] for pair in members).to_dict()
    return {
        "class": name,
        "num_utts": len(members),
        "share": len(members) / len(pairs) if pairs else 0.0,
        **{key: value for key, value in counts.items() if key in ("num_errors", "num_ins", "num_del", "num_sub")},
    }


def _named(data: StoredSet, pairs: Iterable[ScorePair]) -> Iterator[tuple[str, ScorePair]]:
    utt_ids = list(data.refs)
    for pair in pairs:
        yield utt_ids[pair.index], pair


def _utterance_row(utt_id: str, point: Point, pair: ScorePair) -> dict[str, Any]:
    return {
        "utt": utt_id,
        "class": _class_of(pair),
        "num_errors": point.counts[pair.index].num_errors,
        "hyp_score": pair.first,
        "ref_score": None if pair.second == -np.inf else pair.second,
    }


def phone_reliability(confidences: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """How reliable the confidences of phones are.

    Args:
        confidences: (n,) from 0 to 1.
        right: (n,) 1 for a right phone, 0 for a wrong one, NaN for a phone that is not scored.

    Returns:
        Number of phones, mean confidence, accuracy, expected calibration error ("ece") and "bins".
    """
    scored = ~np.isnan(right)
    return _summary(confidences[scored], right[scored])


def _utterance_reliability(confidences: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> dict[str, Any]:
    """How reliable utterances are: the mean confidence of their phones, compared with the share of right phones."""
    scored = [~np.isnan(outcomes) for outcomes in right]
    rows = [
        (float(values[kept].mean()), float(outcomes[kept].mean()))
        for values, outcomes, kept in zip(confidences, right, scored, strict=True)
        if kept.any()
    ]
    means, shares = np.array(rows).reshape(-1, 2).T
    return _summary(means, shares)


def _summary(confidences: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    error = expected_calibration_error(confidences, right)
    return {
        "number": len(confidences),
        "confidence": float(confidences.mean()) if len(confidences) else None,
        "accuracy": float(right.mean()) if len(confidences) else None,
        "ece": None if math.isnan(error) else error,
        "bins": [asdict(b) for b in reliability(confidences, right)],
    }


def render_analysis(analysis: Mapping[str, Any]) -> str:
    """The analysis as plain text."""
    settings = analysis["settings"]
    parts = [
        [
            f"beam {settings['beam']}, lm_weight {settings['lm_weight']:g}, insertion_bonus "
            f"{settings['insertion_bonus']:g}, protocol {analysis['protocol']}: {analysis['line']}"
        ],
        _class_lines(analysis),
        _wider_lines(analysis),
        _confidence_lines(analysis["confidence"]),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _class_lines(analysis: Mapping[str, Any]) -> list[str]:
    rows: list[list[str | int]] = [["class", "utts", "share, %", "errors", "ins", "del", "sub"]]
    for row in analysis["classes"]:
        share = f"{100 * row['share']:.2f}"
        rows.append([row["class"], row["num_utts"], share.rjust(len("share, %")), row["num_errors"]])
        rows[-1] += [row["num_ins"], row["num_del"], row["num_sub"]]
    lines = [f"Search errors and model errors: {analysis['num_wrong']} of {analysis['num_utts']} utterances are wrong"]
    lines += format_table(rows)
    lines.append("search error: the reference's total score is above the hypothesis's; both are exact")
    if analysis["num_impossible"]:
        lines.append(f"{analysis['num_impossible']} references cannot be found: too long, or a phone without a token")
    return lines


def _wider_lines(analysis: Mapping[str, Any]) -> list[str]:
    if not analysis["wider"]:
        return [f"No beam is wider than {analysis['settings']['beam']}"]
    rows: list[list[str | int]] = [
        ["beam", "PER", "errors", "utts changed", "with a better score", "utts, %", "phones", "phones, %"]
    ]
    for row in analysis["wider"]:
        utts, phones = (
            f"{100 * row[number] / max(total, 1):.2f}"
            for number, total in (("num_improved", analysis["num_utts"]), ("num_edits", row["num_phones"]))
        )
        rows.append([row["beam"], f"{row['per']:.2f}", f"{row['num_errors']:+d}".rjust(len("errors"))])
        rows[-1] += [row["num_changed"], row["num_improved"], utts.rjust(len("utts, %"))]
        rows[-1] += [row["num_edits"], phones.rjust(len("phones, %"))]
    last = "utts, phones: those that the wider beam changes for a better score"
    return ["Wider beams", *format_table(rows), last]


def _confidence_lines(confidence: Mapping[str, Any]) -> list[str]:
    rows: list[list[str | int]] = [["of", "number", "mean, %", "right, %", "ECE, %"]]
    for name in ("phones", "utterances"):
        figures = confidence[name]
        rows.append([name, figures["number"]])
        for key, title in (("confidence", "mean, %"), ("accuracy", "right, %"), ("ece", "ECE, %")):
            value = "-" if figures[key] is None else f"{100 * figures[key]:.2f}"
            rows[-1].append(value.rjust(len(title)))
    title = "Confidences" if confidence["calibrated"] else "Confidences, not calibrated (asrkit tune does that)"
    last = "ECE: mean of |share right - mean confidence| of each one's bin, 10 bins of equal width"
    return [title, *format_table(rows), last]
