"""The report on a decoded data directory: its phone error rate and its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkit.io.atomic import atomic_write
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp, expect_right
from asrkit.reporting.text import build_report, render_text
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.tally import Tally
from asrkit.stages.inputs import DECODE, DECODE_STAMP, expect_files
from asrkit.stages.scored_data import ScoredData

_TABLES = ("text", "utt2spk", "spk2gender")


@dataclass(frozen=True)
class Report:
    """A report on disk.

    Attributes:
        text_file: the report as text.
        json_file: all figures as JSON.
        lines: a summary: what was counted, the intervals and, last, the phone error rate.
        is_new: True if it was made now, False if it was up to date.
        warnings: a line for each pair of symbols that look alike but differ, and for audio that the page lacks.
        page: the page to open in a browser, for the report of an experiment.
    """

    text_file: Path
    json_file: Path
    lines: Sequence[str]
    is_new: bool
    warnings: Sequence[str] = ()
    page: Path | None = None


def report(
    ref: str | Path,
    hyp: str | Path,
    out: str | Path,
    *,
    protocol: Protocol = AS_IS,
    force: bool = False,
    num_jobs: int = 1,
) -> Report:
    """Report the errors of hypotheses in `out`/report.txt and `out`/report.json, unless they are up to date.

    Args:
        ref: the data directory that was decoded.
        hyp: the hypotheses, lines of `utt_id phone phone ...`.
        out: the directory of the report.
        protocol: how errors are counted (folding of symbols, treatment of silence), one of PROTOCOLS.
        force: make the report even if it is up to date.
        num_jobs: the number of processes that score a large set.

    Raises:
        DataError: transcripts, speakers or hypotheses are missing or faulty, or do not fit each other; or the protocol
            leaves no reference phone to score.
    """
    ref, hyp, out = Path(ref), Path(hyp), Path(out)
    expect_hypotheses(hyp)
    stamp = report_stamp(ref, hyp, out, protocol)
    if not force and (made_before := read_report(stamp, out)) is not None:
        return made_before
    with lock_dir(out, "report"), stamp.making():
        data = ScoredData(ref, {"": hyp}, protocol)
        tally = Tally()
        for utt2spk, results in data.parts(num_jobs):
            tally.add(results[""], utt2spk)
        return write_report(out, report_figures(ref, hyp, data, tally))


def report_figures(ref: Path, hyp: Path, data: ScoredData, tally: Tally) -> dict[str, Any]:
    """All figures of a report: its inputs, the figures of the tally, and warnings if there are any."""
    figures = {"ref": str(ref), "hyp": str(hyp), **build_report(tally, data.spk2gender, data.protocol)}
    return figures | ({"warnings": list(data.warnings)} if data.warnings else {})


def expect_hypotheses(hyp: Path) -> None:
    """Check that the hypotheses exist and are complete. Raises DataError if not."""
    expect_files({hyp: DECODE})
    expect_right(hyp.parent / DECODE_STAMP, DECODE, [hyp.name])


def report_stamp(ref: Path, hyp: Path, out: Path, protocol: Protocol) -> Stamp:
    """The stamp of a report, with everything on which it depends."""
    files = [File(file) for file in (hyp, *(ref / name for name in _TABLES))]
    return Stamp(out / ".report.stamp", {"files": files, "protocol": protocol.name})


def read_report(stamp: Stamp, out: Path) -> Report | None:
    """The report on disk, if it is up to date."""
    if not stamp.is_current() or (made_before := _read_lines(out / "report.json")) is None:
        return None
    lines, warnings = made_before
    return Report(out / "report.txt", out / "report.json", lines, is_new=False, warnings=warnings)


def write_report(out: Path, figures: Mapping[str, Any]) -> Report:
    """Write the figures of a report as text and as JSON."""
    text_file, json_file = out / "report.txt", out / "report.json"
    with atomic_write(text_file) as stream:
        stream.write(render_text(figures))
    write_json(json_file, figures)
    warnings = figures.get("warnings", [])
    return Report(text_file, json_file, [*figures["intro"], figures["line"]], is_new=True, warnings=warnings)


def _read_lines(json_file: Path) -> tuple[list[str], list[str]] | None:
    """The summary of a report and its warnings; None if the file is not a report."""
    try:
        figures = read_json(json_file)
        lines, warnings = [*figures["intro"], figures["line"]], [*figures.get("warnings", [])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return (lines, warnings) if all(isinstance(line, str) for line in lines + warnings) else None
