"""`asrkit score REF HYP`: the phone error rate between two files of Kaldi transcripts, under a named protocol."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrkit.errors import DataError, location, raise_if_any
from asrkit.io.atomic import atomic_write
from asrkit.io.scp import read_table
from asrkit.reporting.text import format_table
from asrkit.scoring.per import PerResult, read_transcripts
from asrkit.scoring.protocols import AS_IS, PROTOCOLS, Protocol
from asrkit.scoring.significance import Interval, intervals, to_json

ALL = "all"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ref", type=Path, metavar="REF", help="reference transcripts: `utt_id phone phone ...` a line")
    parser.add_argument("hyp", type=Path, metavar="HYP", help="hypotheses in the same form, one for each reference")
    add_protocol(parser, ALL)
    add_utt2spk(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the counts, in all and by utterance")


def add_protocol(parser: argparse.ArgumentParser, *others: str) -> None:
    """The option --protocol; `others` are choices besides the protocols' names."""
    parser.add_argument(
        "--protocol",
        choices=[*PROTOCOLS, *others],
        default=AS_IS.name,
        help="folding and treatment of silence, see docs/scoring.md (default: %(default)s, nothing is folded)",
    )


def add_utt2spk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--utt2spk", type=Path, metavar="FILE", help="speakers, for an interval over speakers too")


def read_utt2spk(path: Path | None, utts: Mapping[str, Sequence[str]], ref: Path) -> dict[str, str] | None:
    """The speaker of each of `utts`; None for no file. Raises DataError naming utterances without one."""
    if path is None:
        return None
    utt2spk = read_table(path)
    raise_if_any([f"{location(path)}utterance {utt} of {ref} has no speaker" for utt in utts if utt not in utt2spk])
    return utt2spk


def read_references(path: Path) -> dict[str, tuple[str, ...]]:
    refs = read_transcripts(path)
    if not any(refs.values()):
        raise DataError(f"{location(path)}no phones in it; expected `utt_id phone phone ...` lines")
    return refs


def run(args: argparse.Namespace) -> int:
    refs, hyps = read_references(args.ref), read_transcripts(args.hyp)
    utt2spk = read_utt2spk(args.utt2spk, refs, args.ref)
    names = list(PROTOCOLS) if args.protocol == ALL else [args.protocol]
    scores = []
    for protocol in (PROTOCOLS[name] for name in names):
        result = protocol.score(refs, hyps, ref_name=str(args.ref), hyp_name=str(args.hyp))
        scores.append((protocol, result, intervals(result.per_utt, utt2spk)))
    if args.json:
        values = {protocol.name: _to_json(protocol, result, found) for protocol, result, found in scores}
        with atomic_write(args.json) as stream:
            json.dump(values if args.protocol == ALL else values[names[0]], stream, ensure_ascii=False, indent=1)
            stream.write("\n")
    if args.protocol == ALL:
        _print_all(scores)
    else:
        print_score(*scores[0])
    return 0


def print_score(protocol: Protocol, result: PerResult, found: Mapping[str, Interval]) -> None:
    """What a PER was counted over, how sure it is, and, last, the PER itself."""
    print(protocol.describe(result))
    for unit, interval in found.items():
        print(interval.text(unit))
    print(result.line())


def _print_all(scores: Sequence[tuple[Protocol, PerResult, Mapping[str, Interval]]]) -> None:
    units = list(scores[0][2])
    rows: list[list[str | int]] = [
        ["protocol", "symbols", "silence", "adjacent silences", "tokens", "PER", "errors", "ins", "del", "sub"]
        + [f"95 % over {scores[0][2][unit].num_units} {unit}" for unit in units]
    ]
    for protocol, result, found in scores:
        adjacent = "-" if protocol.silence == "removed" else "merged" if protocol.merge_silence else "kept"
        rows.append(
            [protocol.name, protocol.folding, protocol.silence, adjacent, result.num_ref, f"{result.per:.2f}"]
            + [result.num_errors, result.num_ins, result.num_del, result.num_sub]
            + [found[unit].range_text() for unit in units]
        )
    interval = scores[0][2][units[0]]
    print("\n".join(format_table(rows)))
    print(f"intervals: bootstrap-t, {interval.num_samples} samples, seed {interval.seed}; protocols: docs/scoring.md")


def _to_json(protocol: Protocol, result: PerResult, found: Mapping[str, Interval]) -> dict[str, object]:
    return {
        "protocol": protocol.name,
        "description": protocol.describe(result),
        **result.to_dict(),
        "num_utts": len(result.per_utt),
        "intervals": to_json(found),
        "utts": {utt: counts.to_dict() for utt, counts in result.per_utt.items()},
    }
