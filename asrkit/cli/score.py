"""`asrkit score REF HYP`: compute the phone error rate between two files of Kaldi transcripts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from asrkit.cli.options import add, add_protocol, print_warnings
from asrkit.io.json_text import write_json
from asrkit.io.lock import lock_file
from asrkit.io.tell import tell
from asrkit.reporting.text import format_table
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.scoring import Score, score_by_protocols

ALL = "all"


DESCRIPTION = "Compute the phone error rate (PER) between two files of transcripts. The last line is the PER."
EXAMPLES = (
    "asrkit score DATA/test/text EXP/decode_test/hyp",
    "asrkit score --protocol all --utt2spk DATA/test/utt2spk REF HYP",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument("ref", type=Path, metavar="REF", help="true transcripts: lines of `utt_id phone phone ...`")
    parser.add_argument("hyp", type=Path, metavar="HYP", help="recognised phones, a line for each utterance of REF")
    add_protocol(parser, ALL)
    add(parser, "--utt2spk", shown="none")
    add(parser, "--json-file", "It has the counts of each utterance, too", shown="none")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit score` with parsed arguments. Returns the exit status: 0."""
    by_all = args.protocol == ALL
    protocols = [*PROTOCOLS.values()] if by_all else [PROTOCOLS[args.protocol]]
    scores = score_by_protocols(args.ref, args.hyp, protocols, utt2spk=args.utt2spk)
    if args.json_file:
        values = {score.protocol.name: score.to_dict() for score in scores}
        with lock_file(args.json_file, "score"):
            write_json(args.json_file, values if by_all else values[args.protocol])
        tell(f"{args.json_file}: written")
    print_warnings(args, scores[0].warnings)
    print(*(_table(scores) if by_all else scores[0].lines()), sep="\n")
    return 0


def _table(scores: Sequence[Score]) -> list[str]:
    """A table with one row per protocol."""
    intervals = scores[0].intervals
    header = ["protocol", "symbols", "silence", "adjacent silences", "tokens", "PER", "errors", "ins", "del", "sub"]
    rows: list[list[str | int]] = [
        [*header, *(f"95 % over {interval.num_units} {unit}" for unit, interval in intervals.items())]
    ]
    for score in scores:
        protocol, result = score.protocol, score.result
        adjacent = "-" if protocol.silence == "removed" else "merged" if protocol.merge_silence else "kept"
        row: list[str | int] = [protocol.name, protocol.folding, protocol.silence, adjacent]
        row += [result.num_ref, f"{result.per:.2f}", result.num_errors, result.num_ins, result.num_del, result.num_sub]
        rows.append([*row, *(score.intervals[unit].range_text() for unit in intervals)])
    how = intervals["utterances"]
    last = f"intervals: bootstrap-t, {how.num_samples} samples, seed {how.seed}; protocols: docs/scoring.md"
    return [*format_table(rows), last]
