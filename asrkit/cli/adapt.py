"""`asrkit adapt`: a trained model and minutes of one's own recordings to a model that is better on them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrkit.cli.options import add_force
from asrkit.stages.adaptation import AdaptationData, adapt


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        required=True,
        help="the trained model: a name (asrkit models), an experiment directory, or an exported file",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DATA",
        help="data directory with transcripts, and with features that asrkit extract --model MODEL made",
    )
    parser.add_argument("--dir", type=Path, required=True, metavar="NEW", help="experiment directory to write")
    parser.add_argument(
        "--phone-map",
        type=Path,
        metavar="FILE",
        help="`symbol phone` lines: which phone of the model a symbol of the transcripts is (none: it is left out)",
    )
    parser.add_argument(
        "--new-phones",
        action="store_true",
        help="a new output layer for the phones of the transcripts, which goes on from the model's phones of the same "
        "name, or those that --phone-map names",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="training.SETTING=VALUE",
        help="a setting of this training, such as training.num_epochs=20; as often as there are settings",
    )
    parser.add_argument("--resume", action="store_true", help="go on from NEW's checkpoint, if there is one")
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    data = AdaptationData(args.model, args.data, args.phone_map, args.new_phones)
    adapted = adapt(data, args.dir, args.overrides, resume=args.resume, force=args.force, report=_tell)
    if not adapted.is_new:
        print(f"{adapted.directory}: adaptation is up to date")
    print(*adapted.lines, sep="\n")
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
