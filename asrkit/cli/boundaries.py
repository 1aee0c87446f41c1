"""`asrkit boundaries`: measure how far the phone times of a CTM file are from the true ones."""

from __future__ import annotations

import argparse
import math

from asrkit.cli.options import add, print_warnings
from asrkit.io.json_text import write_json
from asrkit.io.lock import lock_file
from asrkit.io.tell import tell
from asrkit.reporting.text import format_table
from asrkit.scoring.boundaries import TOLERANCES_MS, BoundaryResult, Errors
from asrkit.stages.scoring import compare_boundaries

DESCRIPTION = (
    "Measure how far phone times are from the true ones. Only phones that were recognised rightly are compared."
)
EXAMPLES = ("asrkit boundaries --ref DATA/test --hyp EXP/decode_test/phones.ctm --by-phone",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--ref", required=True)
    add(parser, "--hyp", required=True)
    add(parser, "--by-phone", "It has the starts of each phone, worst first")
    add(parser, "--json-file", shown="none")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit boundaries` with parsed arguments. Returns the exit status: 0."""
    result = compare_boundaries(args.ref, args.hyp)
    print_warnings(args, result.warnings)
    if args.json_file:
        with lock_file(args.json_file, "boundaries"):
            write_json(args.json_file, result.to_dict())
        tell(f"{args.json_file}: written")
    if args.by_phone:
        print("\n".join(_by_phone(result)))
    if result.num_missing:
        print(f"utterances without phones in {args.hyp}: {result.num_missing}")
    overlap = f"; their spans overlap by {100 * result.overlap:.1f} %" if result.num_right else ""
    print(f"phones right: {result.num_right} of {result.num_phones}{overlap}")
    print(result.line())
    return 0


def _by_phone(result: BoundaryResult) -> list[str]:
    within = [f"within {ms} ms" for ms in TOLERANCES_MS]
    rows: list[list[str | int]] = [["phone", "starts", *within, "mean ms", "median ms", "bias ms"]]

    def cells(errors: Errors) -> list[str | int]:
        values = [*(errors.share_within(ms) for ms in TOLERANCES_MS)]
        values += [errors.mean_abs_ms, errors.median_abs_ms, errors.bias_ms]
        return [len(errors.seconds), *("-" if math.isnan(value) else f"{value:.1f}" for value in values)]

    worst_first = sorted(result.starts.items(), key=lambda item: (item[1].share_within(20), item[0]))
    rows += [[phone, *cells(errors)] for phone, errors in worst_first]
    return format_table([*rows, ["all", *cells(result.boundaries)]])
