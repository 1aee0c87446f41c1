"""`asrkit compare REF HYP_A HYP_B`: whether one system is better than another, by the paired bootstrap."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add_protocol, add_utt2spk, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.scoring import compare


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ref", type=Path, metavar="REF", help="reference transcripts: `utt_id phone phone ...` a line")
    parser.add_argument("hyp_a", type=Path, metavar="HYP_A", help="hypotheses of system A")
    parser.add_argument("hyp_b", type=Path, metavar="HYP_B", help="hypotheses of system B")
    add_protocol(parser)
    add_utt2spk(parser)


def run(args: argparse.Namespace) -> int:
    systems = compare(args.ref, args.hyp_a, args.hyp_b, protocol=PROTOCOLS[args.protocol], utt2spk=args.utt2spk)
    print_warnings("compare", systems.warnings)
    print(systems.protocol.describe(systems.a))
    print(f"A: {systems.a.line()} {args.hyp_a}")
    print(f"B: {systems.b.line()} {args.hyp_b}")
    print(f"A - B: {systems.a.per - systems.b.per:.2f}")
    for unit, comparison in systems.by_unit.items():
        print(f"{comparison.interval.text(unit)}; probability that A is better: {comparison.prob_a_better:.4f}")
    return 0
