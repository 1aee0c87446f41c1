"""Tuning of a trained experiment on a dev set: search settings, and calibration of confidences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkit.decoding.tuning import StoredSet, leave_out, tune_search
from asrkit.device import CPU, choose_device
from asrkit.errors import AsrkitError
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Product, Stamp
from asrkit.reporting.tuning import CalibrationFit, build_tuning, write_surface
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.transcripts import read_references, read_utt2spk, transcript_warnings
from asrkit.stages.inputs import PREPARE, TRAIN, DecodedSet, changing_model, expect_files
from asrkit.stages.log_probs import LOG_PROBS_STAMP, LogProbStore
from asrkit.stages.other_conditions import log_probs_elsewhere


@dataclass(frozen=True)
class Tuning:
    """The result of tuning. The experiment has the chosen settings.

    Attributes:
        out: the directory of surface.csv, surface.png and tune.json, which record all trials.
        lines: a summary of the result.
        is_new: True if tuning ran now, False if the experiment was up to date.
        warnings: lines about symbols that look alike but differ, too few wrong phones for a calibration, or missing
            audio for a calibration under other conditions.
    """

    out: Path
    lines: Sequence[str]
    is_new: bool
    warnings: Sequence[str] = ()


def tune(
    experiment: str | Path,
    dev: DecodedSet,
    *,
    protocol: Protocol = AS_IS,
    num_jobs: int = 1,
    force: bool = False,
    device: str = CPU,
) -> Tuning:
    """Choose the search settings with the fewest errors on a dev set, and calibrate confidences under them.

    Confidences are calibrated on the dev set as it is and, if its audio is in files, also under other conditions
    (other_conditions.py).

    Settings and calibration are written to the experiment and its export, unless they are up to date.

    Args:
        experiment: the directory of a trained experiment.
        dev: the dev set, which must have been decoded.
        protocol: how errors are counted (folding of symbols, treatment of silence), one of PROTOCOLS.
        num_jobs: number of threads that search.
        force: tune even if the experiment is up to date.
        device: where the network runs, for confidences under other conditions: cpu, cuda or cuda:N.

    Raises:
        DataError: files are missing or faulty, log-probabilities are not those of the experiment, or the protocol
            leaves no reference phone to score.
        ModelError: the experiment cannot be loaded.
        ConfigError: the device is not there.
    """
    experiment = Path(experiment)
    out, text = experiment / "tune", dev.data_dir / "text"
    expect_files({experiment / "final.pt": TRAIN, text: PREPARE})
    table, picture, summary = (out / name for name in ("surface.csv", "surface.png", "tune.json"))
    stamp = Stamp(out / ".tune.stamp", _inputs(dev, protocol))
    if not force and stamp.is_current() and (made_before := _read_lines(summary)) is not None:
        lines, warnings = made_before
        return Tuning(out, lines, is_new=False, warnings=warnings)
    choose_device(device)
    # PyTorch and matplotlib take seconds to load.
    from asrkit.experiment import load_experiment, store_tuning
    from asrkit.inference.export import export_experiment
    from asrkit.reporting.figures import draw_surface

    outputs = {each.name for each in (table, picture, summary, experiment / "final.pt")}
    with lock_dir(experiment, "tune"), lock_dir(out, "tune"), stamp.making(of=outputs):
        trained = load_experiment(experiment)
        refs = read_references(text)
        protocol.check_references(refs, str(text))
        warnings = transcript_warnings({str(text): refs.values(), str(experiment): [trained.tokens.phones]})
        utt2spk = read_utt2spk(dev.data_dir / "utt2spk", refs, text)
        log_probs = LogProbStore(dev.log_prob_dir, trained, dev.data_dir).read(refs)
        stored = StoredSet(log_probs, refs, trained.tokens, trained.search_models, protocol, num_jobs)
        tuned = tune_search(stored, trained.config.decoding)
        speakers = [utt2spk[utt_id] for utt_id in refs]
        left_out = leave_out(stored, trained.config.decoding, tuned.config.beam, speakers)
        elsewhere = None
        try:
            others = log_probs_elsewhere(trained, dev.data_dir, list(refs), device)
            elsewhere = StoredSet(others, refs, trained.tokens, trained.search_models, protocol, num_jobs)
        except AsrkitError as error:
            reason = str(error).split("\n")[0]
            warnings.append(f"{dev.data_dir}: confidences are calibrated on it as it is, not in noise: {reason}")
        fit = CalibrationFit.on(stored, elsewhere, tuned.winner.config)
        warnings += [f"{dev.data_dir}: {line}" for line in fit.warnings()]
        figures = {"ref": str(dev.data_dir), **build_tuning(stored, tuned, left_out, fit, utt2spk)}
        if warnings:
            figures["warnings"] = warnings
        write_surface(table, tuned.points)
        draw_surface(picture, tuned.points, tuned.winner)
        write_json(summary, figures)
        with changing_model(experiment):
            store_tuning(experiment, tuned.config, fit.calibration)
            export_experiment(experiment)
    return Tuning(out, figures["lines"], is_new=True, warnings=warnings)


def _read_lines(summary: Path) -> tuple[list[str], list[str]] | None:
    """The summary of a result and its warnings; None if the file is not a result."""
    try:
        figures = read_json(summary)
        return [*figures["lines"]], [*figures.get("warnings", [])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _inputs(dev: DecodedSet, protocol: Protocol) -> dict[str, Any]:
    """Everything on which the choice depends. final.pt is left out, because it also contains the choice."""
    files = [File(dev.data_dir / name) for name in ("text", "utt2spk")]
    return {"files": files, "log_probs": Product(dev.log_prob_dir / LOG_PROBS_STAMP), "protocol": protocol.name}
