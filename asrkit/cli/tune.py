"""`asrkit tune`: decoding settings and calibrated confidences from a dev set's stored log-probabilities."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.cli.decode import read_log_probs
from asrkit.cli.options import add_force, add_nj, add_protocol
from asrkit.config.yaml_config import to_dict
from asrkit.decoding.confidence import Calibration, fit_calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.tune import (
    BeamTrial,
    Point,
    StoredSet,
    best_point,
    left_out_counts,
    search_beam,
    search_blank_penalty,
    search_settings,
)
from asrkit.errors import location, raise_if_any
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import file_digest, is_current, write_stamp
from asrkit.parallel import track
from asrkit.reporting.analysis import phone_reliability
from asrkit.scoring.per import pool
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.scoring.significance import compare, pool_speakers
from asrkit.scoring.transcripts import read_references, read_utt2spk


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("--ref", type=Path, required=True, metavar="DATA", help="data directory to tune on (dev)")
    parser.add_argument(
        "--decode-dir", type=Path, required=True, metavar="DIR", help="what `asrkit decode` wrote for DATA"
    )
    add_protocol(parser)
    add_nj(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    final, out = args.dir / "final.pt", args.dir / "tune"
    made_by = {final: "stage 3 (asrkit train)", args.ref / "text": "stage 0 (asrkit prepare)"}
    raise_if_any([f"{location(path)}not found; made by {step}" for path, step in made_by.items() if not path.is_file()])
    stamp, table, picture, summary = (out / name for name in (".tune.stamp", "surface.csv", "surface.png", "tune.json"))
    if not args.force and is_current(stamp, _inputs(args), [table, picture, summary]):
        print(f"{out}: tuning is up to date", *json.loads(summary.read_text(encoding="utf-8"))["lines"], sep="\n")
        return 0
    stamp.unlink(missing_ok=True)

    # PyTorch and matplotlib take seconds to load.
    from asrkit.experiment import load_experiment, store_tuning
    from asrkit.inference.export import export_experiment
    from asrkit.reporting.figures import draw_surface

    experiment = load_experiment(args.dir)
    refs = read_references(args.ref / "text")
    utt2spk = read_utt2spk(args.ref / "utt2spk", refs, args.ref / "text")
    log_probs = read_log_probs(experiment, args.ref, args.decode_dir, refs)
    protocol = PROTOCOLS[args.protocol]
    dev = StoredSet(log_probs, refs, experiment.tokens, experiment.lm_automaton, protocol, args.nj)
    start = experiment.config.decoding
    points = list(track(search_settings(dev, start), "tuning weight and bonus"))
    trials = list(track(search_beam(dev, best_point(points).config), "tuning beam"))
    winner, greedy = trials[-1].point, search_blank_penalty(dev).config
    chosen = replace(winner.config, blank_penalty=greedy.blank_penalty)
    speakers = [utt2spk[utt_id] for utt_id in refs]
    left_out = pool(left_out_counts(points, speakers)).to_dict() if len(set(speakers)) > 1 else None
    evidence, right = map(np.concatenate, dev.evidence(winner.config, dev.search(winner.config)))
    calibration = fit_calibration(evidence, right)
    result = {
        "ref": str(args.ref),
        "protocol": protocol.name,
        "winner": to_dict(chosen),
        "total": winner.total.to_dict(),
        "compared": {
            name: _gain(winner, dev.point(config), refs, utt2spk)
            for name, config in {
                "greedy search": DecodingConfig(method="greedy"),
                **({f"greedy search, blank_penalty {greedy.blank_penalty:g}": greedy} if greedy.blank_penalty else {}),
                "default settings": DecodingConfig(lm_weight=DecodingConfig().lm_weight if dev.lm else 0.0),
            }.items()
        },
        "left_out": left_out,
        "beams": [_beam_row(trial) for trial in trials],
        "calibration": {
            **to_dict(calibration),
            "after": phone_reliability(calibration(evidence), right),
            "before": phone_reliability(Calibration()(evidence), right),
        },
    }
    result["lines"] = _lines(result)
    _write_table(table, points)
    draw_surface(picture, points, winner)
    with atomic_write(summary) as stream:
        json.dump(result, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
    store_tuning(args.dir, chosen, calibration)
    export_experiment(args.dir)
    write_stamp(stamp, _inputs(args))
    print(out, *result["lines"], sep="\n")
    return 0


def _inputs(args: argparse.Namespace) -> dict[str, Any]:
    """All that the choice depends on; final.pt as it is once the choice is in it."""
    log_probs = args.decode_dir / ".log_probs.stamp"
    files = [args.dir / "final.pt", args.ref / "text", args.ref / "utt2spk", log_probs]
    return {"files": [file_digest(path) if path.exists() else None for path in files], "protocol": args.protocol}


def _gain(winner: Point, other: Point, utt_ids: Iterable[str], utt2spk: Mapping[str, str]) -> dict[str, Any]:
    """What another setting gives, and the winner's PER minus its PER, with paired intervals."""
    per_utt = [dict(zip(utt_ids, point.counts, strict=True)) for point in (winner, other)]
    per_spk = [pool_speakers(counts, utt2spk) for counts in per_utt]
    found = {
        unit: compare([*a.values()], [*b.values()])
        for unit, (a, b) in {"utterances": per_utt, "speakers": per_spk}.items()
    }
    return {
        "total": other.total.to_dict(),
        "difference": found["utterances"].difference,
        "intervals": {unit: comparison.interval.to_dict() for unit, comparison in found.items()},
        "texts": [comparison.interval.text(unit) for unit, comparison in found.items()],
    }


def _beam_row(trial: BeamTrial) -> dict[str, Any]:
    return {
        "beam": trial.point.config.beam,
        "per": trial.point.total.per,
        "wider": trial.wider,
        "num_utts": len(trial.point.counts),
        **asdict(trial.gain),
        "num_wrong": trial.num_wrong,
        "num_below_reference": trial.num_below_reference,
    }


def _lines(result: Mapping[str, Any]) -> list[str]:
    """The result in short."""
    winner, left_out, beam, fit = result["winner"], result["left_out"], result["beams"][-1], result["calibration"]
    lines = [
        f"lm_weight {winner['lm_weight']:g}, insertion_bonus {winner['insertion_bonus']:g}, beam {winner['beam']}: "
        f"dev PER {result['total']['per']:.2f} %",
        "settings chosen without the speaker they are counted on: "
        + (f"dev PER {left_out['per']:.2f} %" if left_out else "none (one speaker)"),
    ]
    for name, other in result["compared"].items():
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


def _write_table(path: Path, points: Iterable[Point]) -> None:
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["lm_weight", "insertion_bonus", "beam", "per", "num_ins", "num_del", "num_sub"])
        for point in sorted(points, key=lambda point: (point.config.lm_weight, point.config.insertion_bonus)):
            config, total = point.config, point.total
            settings = config.lm_weight, config.insertion_bonus, config.beam
            writer.writerow([*settings, f"{total.per:.4f}", total.num_ins, total.num_del, total.num_sub])
