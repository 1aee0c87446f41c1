"""Analysis of a decoded data directory: errors of the search and of the model, wider beams, and confidences."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkit.config.yaml_config import load_config
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import SEARCHES
from asrkit.decoding.tuning import StoredSet
from asrkit.errors import ConfigError, DataError, location
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.atomic import atomic_write
from asrkit.io.files import read_bytes
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Product, Stamp, expect_right
from asrkit.parallel import track
from asrkit.reporting.analysis import build_analysis, render_analysis, wider_points
from asrkit.reporting.calibration import Bin
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.transcripts import read_references, transcript_warnings
from asrkit.stages.inputs import DECODE, DECODE_STAMP, PREPARE, TRAIN, DecodedSet, expect_files
from asrkit.stages.log_probs import LOG_PROBS_STAMP, LogProbStore


@dataclass(frozen=True)
class Analysis:
    """An analysis on disk, beside the hypotheses.

    Attributes:
        text_file: the analysis as text. analysis.json has all figures, analysis.csv a line per utterance, and
            reliability.png shows how reliable the confidences are.
        text: the content of `text_file`.
        is_new: True if it was made now, False if it was up to date.
        warnings: a line for each pair of symbols in references and hypotheses that look alike but differ.
    """

    text_file: Path
    text: str
    is_new: bool
    warnings: Sequence[str] = ()


def analyze(
    experiment: str | Path,
    decoded: DecodedSet,
    *,
    protocol: Protocol = AS_IS,
    num_jobs: int = 1,
    force: bool = False,
) -> Analysis:
    """Analyse the errors of a beam search over a data directory, unless the analysis is up to date.

    Args:
        experiment: the directory of the trained experiment that decoded the data directory.
        decoded: the data directory and its hypotheses.
        protocol: how errors are counted (folding of symbols, treatment of silence), one of PROTOCOLS.
        num_jobs: the number of threads that search.
        force: make the analysis even if it is up to date.

    Raises:
        DataError: files are missing or faulty; log-probabilities do not belong to the experiment; or the protocol
            leaves no reference phone to score.
        ModelError: the experiment cannot be loaded.
        ConfigError: the search was not a beam search.
    """
    experiment, out = Path(experiment), decoded.decode_dir
    text, hyp, settings = decoded.data_dir / "text", out / "hyp", out / "decoding.yaml"
    expect_files({experiment / "final.pt": TRAIN, text: PREPARE, hyp: DECODE, settings: DECODE})
    expect_right(out / DECODE_STAMP, DECODE)
    text_file = out / "analysis.txt"
    stamp = Stamp(out / ".analysis.stamp", _inputs(experiment, decoded, protocol))
    if not force and stamp.is_current() and (made_before := _read_analysis(out, text_file)) is not None:
        return made_before
    config = load_config(settings, DecodingConfig)
    if not SEARCHES[config.method].sums_paths:
        raise ConfigError(
            f"{location(settings)}{config.method} search; expected beam search, whose errors are analysed"
        )

    from asrkit.experiment import load_experiment  # loads PyTorch

    with lock_dir(out, "analyze"), stamp.making():
        trained = load_experiment(experiment)
        refs, hyps = read_references(text), read_transcripts(hyp)
        protocol.check_references(refs, str(text))
        if refs.keys() != hyps.keys():
            raise DataError(f"{location(hyp)}not the utterances of {text}; decode it again")
        log_probs = LogProbStore(decoded.log_prob_dir, trained, decoded.data_dir).read(refs)
        data = StoredSet(log_probs, refs, trained.tokens, trained.search_models, protocol, num_jobs)
        labelings = [tuple(trained.tokens.encode(hyps[utt_id], f"{hyp}: {utt_id}")) for utt_id in refs]
        wider = list(track(wider_points(data, config), "wider beams"))
        figures = build_analysis(data, config, labelings, wider, trained.calibration)
        warnings = transcript_warnings({str(text): refs.values(), str(hyp): hyps.values()})
        if warnings:
            figures["warnings"] = warnings
        _write(out, figures)
    return Analysis(text_file, render_analysis(figures), is_new=True, warnings=warnings)


def _read_analysis(out: Path, text_file: Path) -> Analysis | None:
    """The analysis on disk; None if its files are damaged."""
    try:
        warnings = [*read_json(out / "analysis.json").get("warnings", [])]
        return Analysis(text_file, read_bytes(text_file).decode(), is_new=False, warnings=warnings)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _write(out: Path, figures: Mapping[str, Any]) -> None:
    from asrkit.reporting.figures import draw_reliability  # loads matplotlib

    write_json(out / "analysis.json", figures)
    with atomic_write(out / "analysis.csv") as stream:
        writer = csv.DictWriter(stream, ["utt", "class", "num_errors", "hyp_score", "ref_score"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(figures["utts"])
    curves = {
        f"{name}, expected calibration error {100 * (each['ece'] or 0):.2f} %": [Bin(**b) for b in each["bins"]]
        for name, each in figures["confidence"].items()
        if name != "calibrated"
    }
    draw_reliability(out / "reliability.png", curves)
    with atomic_write(out / "analysis.txt") as stream:
        stream.write(render_analysis(figures))


def _inputs(experiment: Path, decoded: DecodedSet, protocol: Protocol) -> dict[str, Any]:
    """Everything on which the analysis depends."""
    files = [experiment / "final.pt", decoded.data_dir / "text"]
    files += [decoded.decode_dir / name for name in ("hyp", "decoding.yaml")]
    log_probs = Product(decoded.log_prob_dir / LOG_PROBS_STAMP)
    return {"files": [File(path) for path in files], "log_probs": log_probs, "protocol": protocol.name}
