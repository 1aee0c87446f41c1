"""The analysis of a beam search: whose errors they are, what wider beams find, and how far confidences can be trusted.

As in asrkit/report/text.py the figures are gathered once, as JSON's own values, and then rendered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from asrkit.config.yaml_config import to_dict
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.search_errors import Labelling
from asrkit.decoding.tune import MAX_BEAM, Point, StoredSet
from asrkit.reporting.calibration import expected_calibration_error, reliability
from asrkit.reporting.text import format_table
from asrkit.scoring.per import pool


def wider_points(data: StoredSet, config: DecodingConfig) -> Iterator[tuple[Point, list[Labelling]]]:
    """What beams of twice the width find, then of 4, 8 and 16 times, those above twice up to MAX_BEAM."""
    for factor in (2, 4, 8, 16):
        wider = replace(config, beam=factor * config.beam)
        if factor > 2 and wider.beam > MAX_BEAM:
            return
        hyps = data.search(wider)
        yield Point(wider, data.count(hyps)), hyps


def build_analysis(
    data: StoredSet,
    config: DecodingConfig,
    hyps: Sequence[Labelling],
    wider: Sequence[tuple[Point, Sequence[Labelling]]],
    calibration: Calibration | None,
) -> dict[str, Any]:
    """Every figure of the analysis of `hyps`, found with `config` in `data`; shares are from 0 to 1."""
    point = Point(config, data.count(hyps))
    pairs = data.compare_with_references(point, hyps)
    utt_ids = list(data.refs)
    classes = {
        "search errors": [pair for pair in pairs if pair.second_is_better],
        "model errors": [pair for pair in pairs if not pair.second_is_better],
    }
    class_of = {pair.index: name for name, members in classes.items() for pair in members}
    evidence, right = data.evidence(config, hyps)
    confidences = [(calibration or Calibration())(rows) for rows in evidence]
    return {
        "settings": to_dict(config),
        "protocol": data.protocol.name,
        "line": point.total.line(),
        "num_utts": len(utt_ids),
        "num_wrong": len(pairs),
        "classes": [
            {
                "class": name,
                "num_utts": len(members),
                "share": len(members) / len(pairs) if pairs else 0.0,
                **{
                    key: value
                    for key, value in pool(point.counts[pair.index] for pair in members).to_dict().items()
                    if key in ("num_errors", "num_ins", "num_del", "num_sub")
                },
            }
            for name, members in classes.items()
        ],
        "num_impossible": sum(pair.second == -np.inf for pair in pairs),
        "wider": [
            {
                "beam": wide.config.beam,
                "per": wide.total.per,
                **asdict(data.gain(config, hyps, found)),
                "num_errors": wide.total.num_errors - point.total.num_errors,
            }
            for wide, found in wider
        ],
        "confidence": {
            "calibrated": calibration is not None,
            "phones": phone_reliability(np.concatenate(confidences), np.concatenate(right)),
            "utterances": _utterance_reliability(confidences, right),
        },
        "utts": [
            {
                "utt": utt_ids[pair.index],
                "class": class_of[pair.index],
                "num_errors": point.counts[pair.index].num_errors,
                "hyp_score": pair.first,
                "ref_score": None if pair.second == -np.inf else pair.second,
            }
            for pair in pairs
        ],
    }


def phone_reliability(confidences: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Reliability of phones: `confidences` (n,), `right` (n,) 0, 1, or NaN for phones that are not scored."""
    scored = ~np.isnan(right)
    return _summary(confidences[scored], right[scored])


def _utterance_reliability(confidences: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> dict[str, Any]:
    """Reliability of utterances: the mean confidence of their phones, beside the share that is right."""
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
    lines = [
        f"beam {settings['beam']}, lm_weight {settings['lm_weight']:g}, insertion_bonus "
        f"{settings['insertion_bonus']:g}, protocol {analysis['protocol']}: {analysis['line']}",
        "",
        f"Search errors and model errors: {analysis['num_wrong']} of {analysis['num_utts']} utterances are wrong",
    ]
    rows: list[list[str | int]] = [["class", "utts", "share, %", "errors", "ins", "del", "sub"]]
    for row in analysis["classes"]:
        share = f"{100 * row['share']:.2f}"
        rows.append([row["class"], row["num_utts"], share.rjust(len("share, %")), row["num_errors"]])
        rows[-1] += [row["num_ins"], row["num_del"], row["num_sub"]]
    lines += format_table(rows)
    lines.append("search error: the reference's total score is above the hypothesis's; both are exact")
    if analysis["num_impossible"]:
        lines.append(f"{analysis['num_impossible']} references cannot be found: too long, or a phone without a token")
    lines += ["", "Wider beams"]
    rows = [["beam", "PER", "errors", "utts changed", "with a better score", "utts, %", "phones", "phones, %"]]
    for row in analysis["wider"]:
        utts, phones = (
            f"{100 * row[number] / max(total, 1):.2f}"
            for number, total in (("num_improved", analysis["num_utts"]), ("num_edits", row["num_phones"]))
        )
        rows.append([row["beam"], f"{row['per']:.2f}", f"{row['num_errors']:+d}".rjust(len("errors"))])
        rows[-1] += [row["num_changed"], row["num_improved"], utts.rjust(len("utts, %"))]
        rows[-1] += [row["num_edits"], phones.rjust(len("phones, %"))]
    lines += format_table(rows)
    lines.append("utts, phones: those that the wider beam changes for a better score")
    confidence = analysis["confidence"]
    lines += ["", "Confidences" if confidence["calibrated"] else "Confidences, not calibrated (asrkit tune does that)"]
    rows = [["of", "number", "mean, %", "right, %", "ECE, %"]]
    for name in ("phones", "utterances"):
        found = confidence[name]
        rows.append([name, found["number"]])
        for key, title in (("confidence", "mean, %"), ("accuracy", "right, %"), ("ece", "ECE, %")):
            value = "-" if found[key] is None else f"{100 * found[key]:.2f}"
            rows[-1].append(value.rjust(len(title)))
    lines += format_table(rows)
    lines.append("ECE: mean of |share right - mean confidence| of each one's bin, 10 bins of equal width")
    return "\n".join(lines) + "\n"
