"""`asrkit tune`: choose decoding settings and calibrate confidences on a dev set that was decoded."""

from __future__ import annotations

import argparse

from asrkit.cli.options import (
    add,
    add_decoded,
    add_device,
    add_executor,
    add_nj,
    add_protocol,
    experiment_dir,
    print_warnings,
)
from asrkit.io.tell import tell
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.inputs import DecodedSet, decode_dir
from asrkit.stages.tuning import tune

DESCRIPTION = (
    "Find the search settings that give the lowest phone error rate on a development set, and calibrate confidences. "
    "The settings go into the experiment."
)
EXAMPLES = (
    "asrkit decode --model EXP --data DATA/dev",
    "asrkit tune --model EXP --data DATA/dev",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_decoded(parser)
    add_protocol(parser)
    add_nj(parser)
    add_executor(parser)
    add_device(parser, "Searches run on the CPU")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit tune` with parsed arguments. Returns the exit status: 0."""
    experiment = experiment_dir(args.model)
    dev = DecodedSet(args.data, args.decode_dir or decode_dir(experiment, args.data))
    protocol = PROTOCOLS[args.protocol]
    tuning = tune(experiment, dev, protocol=protocol, num_jobs=args.nj, force=args.force, device=args.device)
    print_warnings(args, tuning.warnings)
    print(tuning.out if tuning.is_new else f"{tuning.out}: tuning is up to date", *tuning.lines, sep="\n")
    if tuning.is_new:
        tell(f"{experiment}: search settings and calibration of confidences written")
    return 0
