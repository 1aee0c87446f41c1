"""`asrkit report`: the phone error rate of a decoded data directory, and where its errors are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from asrkit.cli.options import add_force
from asrkit.cli.score import add_protocol
from asrkit.errors import DataError, location
from asrkit.formats.data_dir import load_data_dir
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import file_digest, is_current, write_stamp
from asrkit.reporting.text import build_report, render_text
from asrkit.scoring.per import read_transcripts
from asrkit.scoring.protocols import PROTOCOLS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ref", type=Path, required=True, metavar="DATA_DIR", help="data directory that was decoded")
    parser.add_argument("--hyp", type=Path, required=True, metavar="FILE", help="hypotheses: `utt_id phone phone ...`")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where report.txt and report.json go")
    add_protocol(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    if not args.hyp.exists():
        raise DataError(f"{location(args.hyp)}not found; made by stage 4 (asrkit decode)")
    text_file, json_file, stamp = (args.out / name for name in ("report.txt", "report.json", ".report.stamp"))
    files = [args.hyp, *(args.ref / name for name in ("wav.scp", "text", "utt2spk", "spk2utt", "spk2gender"))]
    inputs = {str(file): file_digest(file) for file in files if file.is_file()} | {"protocol": args.protocol}
    if not args.force and is_current(stamp, inputs, [text_file, json_file]):
        lines = _lines_made_before(json_file)
        if lines is not None:
            print(f"{text_file}, {json_file}: up to date", *lines, sep="\n")
            return 0
    data = load_data_dir(args.ref, allow_pipes=True)  # it opens no audio, so no pipe is run
    protocol = PROTOCOLS[args.protocol]
    hyps = read_transcripts(args.hyp)
    result = protocol.score(data.text, hyps, ref_name=str(args.ref / "text"), hyp_name=str(args.hyp))
    report = {
        "ref": str(args.ref),
        "hyp": str(args.hyp),
        **build_report(result, data.utt2spk, data.spk2gender, protocol),
    }
    with atomic_write(text_file) as stream:
        stream.write(f"{args.hyp} against {args.ref}\n" + render_text(report))
    with atomic_write(json_file) as stream:
        json.dump(report, stream, ensure_ascii=False, indent=1)
        stream.write("\n")
    write_stamp(stamp, inputs)
    print(f"{text_file}, {json_file}", *report["intro"], report["line"], sep="\n")
    return 0


def _lines_made_before(json_file: Path) -> list[str] | None:
    """What a report that is up to date says in short; None when someone has damaged its file."""
    try:
        report = json.loads(json_file.read_text(encoding="utf-8"))
        lines = [*report["intro"], report["line"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return lines if all(isinstance(line, str) for line in lines) else None
