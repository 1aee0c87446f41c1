"""The report on a decoded data directory: its phone error rate, and where its errors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.formats.data_dir import load_data_dir
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.atomic import atomic_write
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp, expect_right
from asrkit.reporting.text import build_report, render_text
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.transcripts import transcript_warnings
from asrkit.stages.inputs import DECODE, DECODE_STAMP, expect_files

_TABLES = ("text", "utt2spk", "spk2utt", "spk2gender")


@dataclass(frozen=True)
class Report:
    """A report as it is on disk.

    Attributes:
        text_file, json_file: the report to read, and all its figures.
        lines: what it says in short: what was counted, how sure the rate is, and, last, the rate itself.
        is_new: whether it was made now; else the one that was there is up to date.
        warnings: symbols of references and hypotheses that are not what they seem, a line each.
    """

    text_file: Path
    json_file: Path
    lines: Sequence[str]
    is_new: bool
    warnings: Sequence[str] = ()


def report(
    ref: str | Path, hyp: str | Path, out: str | Path, *, protocol: Protocol = AS_IS, force: bool = False
) -> Report:
    """Report the errors of hypotheses in `out`/report.txt and `out`/report.json, unless they are up to date.

    Args:
        ref: the data directory that was decoded.
        hyp: the hypotheses, `utt_id phone phone ...` lines.
        protocol: folding of symbols and treatment of silence, one of PROTOCOLS.
        force: make the report even when it is up to date.

    Raises:
        DataError: the data directory or the hypotheses are missing or faulty, or do not fit each other; or the
            protocol leaves no reference phone to score.
    """
    ref, hyp, out = Path(ref), Path(hyp), Path(out)
    expect_files({hyp: DECODE})
    expect_right(hyp.parent / DECODE_STAMP, DECODE, [hyp.name])
    text_file, json_file = out / "report.txt", out / "report.json"
    files = [File(file) for file in (hyp, *(ref / name for name in _TABLES))]
    stamp = Stamp(out / ".report.stamp", {"files": files, "protocol": protocol.name})
    if not force and stamp.is_current() and (made_before := _read_lines(json_file)) is not None:
        lines, warnings = made_before
        return Report(text_file, json_file, lines, is_new=False, warnings=warnings)
    with lock_dir(out, "report"), stamp.making():
        data = load_data_dir(ref, AudioAccess(allow_pipes=True))  # it opens no audio, so no pipe is run
        hyps = read_transcripts(hyp)
        result = protocol.score(data.text, hyps, ref_name=str(ref / "text"), hyp_name=str(hyp))
        figures = {"ref": str(ref), "hyp": str(hyp), **build_report(result, data.utt2spk, data.spk2gender, protocol)}
        warnings = transcript_warnings({str(ref / "text"): data.text.values(), str(hyp): hyps.values()})
        if warnings:
            figures["warnings"] = warnings
        with atomic_write(text_file) as stream:
            stream.write(f"{hyp} against {ref}\n" + render_text(figures))
        write_json(json_file, figures)
    return Report(text_file, json_file, [*figures["intro"], figures["line"]], is_new=True, warnings=warnings)


def _read_lines(json_file: Path) -> tuple[list[str], list[str]] | None:
    """What a report says in short, and its warnings; None for a file that is no report."""
    try:
        figures = read_json(json_file)
        lines, warnings = [*figures["intro"], figures["line"]], [*figures.get("warnings", [])]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return (lines, warnings) if all(isinstance(line, str) for line in lines + warnings) else None
