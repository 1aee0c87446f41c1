"""`asrkit analyze`: separate search errors from model errors, try wider beams, and check confidences."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, add_decoded, add_executor, add_nj, add_protocol, experiment_dir, print_warnings
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.stages.analysis import analyze
from asrkit.stages.inputs import DecodedSet, decode_dir

DESCRIPTION = (
    "Tell errors of the search from errors of the model. "
    "A search error goes away with a wider beam; a model error does not. "
    "Confidences are compared with what was right."
)
EXAMPLES = ("asrkit analyze --model EXP --data DATA/test",)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_decoded(parser)
    add(parser, "--log-probs", shown="the directory of --decode-dir")
    add_protocol(parser)
    add_nj(parser)
    add_executor(parser)
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit analyze` with parsed arguments. Returns the exit status: 0."""
    experiment = experiment_dir(args.model)
    decoded = DecodedSet(args.data, args.decode_dir or decode_dir(experiment, args.data), args.log_probs)
    analysis = analyze(experiment, decoded, protocol=PROTOCOLS[args.protocol], num_jobs=args.nj, force=args.force)
    print_warnings(args, analysis.warnings)
    print(analysis.text_file if analysis.is_new else f"{analysis.text_file}: up to date")
    print(analysis.text, end="")
    return 0
