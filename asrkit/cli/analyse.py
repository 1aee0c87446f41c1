"""`asrkit analyse`: errors of the search and of the model, what wider beams find, and how good confidences are."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from asrkit.cli.decode import read_log_probs
from asrkit.cli.options import add_force, add_nj, add_protocol
from asrkit.config.yaml_config import load_config
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import SEARCHES
from asrkit.decoding.tune import StoredSet
from asrkit.errors import ConfigError, DataError, location, raise_if_any
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import file_digest, is_current, write_stamp
from asrkit.parallel import track
from asrkit.reporting.analysis import build_analysis, render_analysis, wider_points
from asrkit.reporting.calibration import Bin
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.scoring.transcripts import read_references


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("--ref", type=Path, required=True, metavar="DATA", help="data directory that was decoded")
    parser.add_argument(
        "--decode-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="what `asrkit decode` wrote for DATA; analysis.txt, .json and .csv and reliability.png go there",
    )
    parser.add_argument(
        "--log-probs", type=Path, metavar="DIR", help="directory of the log-probabilities (default: --decode-dir)"
    )
    add_protocol(parser)
    add_nj(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    out, hyp, settings = args.decode_dir, args.decode_dir / "hyp", args.decode_dir / "decoding.yaml"
    made_by = {args.dir / "final.pt": "stage 3 (asrkit train)", args.ref / "text": "stage 0 (asrkit prepare)"}
    made_by |= dict.fromkeys([hyp, settings], "stage 4 (asrkit decode)")
    raise_if_any([f"{location(path)}not found; made by {step}" for path, step in made_by.items() if not path.is_file()])
    log_prob_dir = args.log_probs or out
    stamp, text = out / ".analysis.stamp", out / "analysis.txt"
    outputs = [text, out / "analysis.json", out / "analysis.csv", out / "reliability.png"]
    inputs = _inputs(args, log_prob_dir)
    if not args.force and is_current(stamp, inputs, outputs):
        print(f"{text}: up to date", text.read_text(encoding="utf-8"), sep="\n", end="")
        return 0
    config = load_config(settings, DecodingConfig)
    if not SEARCHES[config.method].sums_paths:
        raise ConfigError(
            f"{location(settings)}{config.method} search; expected beam search, whose errors are analysed"
        )

    # PyTorch and matplotlib take seconds to load.
    from asrkit.experiment import load_experiment
    from asrkit.reporting.figures import draw_reliability

    experiment = load_experiment(args.dir)
    refs, hyps = read_references(args.ref / "text"), read_transcripts(hyp)
    if refs.keys() != hyps.keys():
        raise DataError(f"{location(hyp)}other utterances than {args.ref / 'text'} has; decode it again")
    log_probs = read_log_probs(experiment, args.ref, log_prob_dir, refs)
    data = StoredSet(log_probs, refs, experiment.tokens, experiment.lm_automaton, PROTOCOLS[args.protocol], args.nj)
    labellings = [tuple(experiment.tokens.encode(hyps[utt_id], f"{hyp}: {utt_id}")) for utt_id in refs]
    wider = list(track(wider_points(data, config), "wider beams"))
    analysis = build_analysis(data, config, labellings, wider, experiment.calibration)
    with atomic_write(out / "analysis.json") as stream:
        json.dump(analysis, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
    with atomic_write(out / "analysis.csv") as stream:
        writer = csv.DictWriter(stream, ["utt", "class", "num_errors", "hyp_score", "ref_score"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(analysis["utts"])
    curves = {name: found for name, found in analysis["confidence"].items() if name != "calibrated"}
    draw_reliability(
        out / "reliability.png",
        {
            f"{name}, expected calibration error {100 * (found['ece'] or 0):.2f} %": [Bin(**b) for b in found["bins"]]
            for name, found in curves.items()
        },
    )
    with atomic_write(text) as stream:
        stream.write(render_analysis(analysis))
    write_stamp(stamp, inputs)
    print(text, render_analysis(analysis), sep="\n", end="")
    return 0


def _inputs(args: argparse.Namespace, log_prob_dir: Path) -> dict[str, Any]:
    """All that the analysis depends on."""
    files = [args.dir / "final.pt", args.ref / "text", log_prob_dir / ".log_probs.stamp"]
    files += [args.decode_dir / name for name in ("hyp", "decoding.yaml")]
    return {"files": [file_digest(path) if path.exists() else None for path in files], "protocol": args.protocol}
