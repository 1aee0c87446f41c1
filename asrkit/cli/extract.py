"""`asrkit extract DATA_DIR...`: features and CMVN statistics of data directories."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.cli.options import add_audio_options, add_channel, add_config, add_force, add_nj
from asrkit.errors import ConfigError
from asrkit.features.backends import BACKENDS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data_dirs", type=Path, nargs="+", metavar="DATA_DIR", help="a data directory (wav.scp, utt2spk ...)"
    )
    add_config(parser)
    parser.add_argument(
        "--model", help="take the settings that this trained model's features were made with (asrkit models: names)"
    )
    parser.add_argument(
        "--backend",
        choices=tuple(BACKENDS),
        help="what computes the features (default: the configuration's; native when it is built, else numpy)",
    )
    add_nj(parser)
    add_force(parser)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read all audio and archives to find out whether they changed, also those whose size, times and inode "
        "did not, and run the commands of wav.scp again",
    )
    add_audio_options(parser)
    add_channel(parser)


def run(args: argparse.Namespace) -> int:
    from asrkit.config.experiment_config import load_config
    from asrkit.stages.extraction import extract, model_features

    if args.model is None:
        # The whole file is checked, so that a mistyped training setting does not wait for its stage to be found.
        features = load_config(args.config, args.overrides).features
    elif args.config is not None or args.overrides:
        raise ConfigError("--model: the settings are the model's; leave --config and --set out")
    else:
        features = model_features(args.model)
    if args.backend is not None:
        features = replace(features, backend=args.backend)
    access = AudioAccess(args.audio_root, args.allow_pipes, args.channel, args.verify)
    extract(args.data_dirs, features, access=access, num_jobs=args.nj, force=args.force, report=_report)
    return 0


def _report(data_dir: Path, is_new: bool) -> None:
    if not is_new:
        print(f"{data_dir}: features are up to date", file=sys.stderr)
