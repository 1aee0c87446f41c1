"""`asrkit extract DATA_DIR...`: compute features and CMVN statistics of data directories."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from asrkit.cli.options import add, add_audio_access, add_config, add_executor, add_nj, audio_access
from asrkit.errors import ConfigError
from asrkit.features.backends import BACKENDS
from asrkit.io.tell import tell

DESCRIPTION = "Compute the features (MFCC) of data directories, and the statistics that normalise them (CMVN)."
EXAMPLES = (
    "asrkit extract DATA/train DATA/dev DATA/test",
    "asrkit extract DATA/test --config conf/blstm_ctc.yaml --nj 4",
    "asrkit extract mydata --model english",
    "asrkit extract DATA/train/split100 --no-archives",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument("data_dirs", type=Path, nargs="+", metavar="DATA", help="data directory (wav.scp, utt2spk ...)")
    add_config(parser)
    add(parser, "--model", "Its settings of features are taken, in place of --config and --set", shown="none")
    add(parser, "--backend", choices=BACKENDS, shown="that of the settings: native, or numpy without a C compiler")
    add(parser, "--no-archives")
    add_nj(parser)
    add_executor(parser)
    add(parser, "--force")
    add(parser, "--verify", "Without it, files of the same size and time count as unchanged")
    add_audio_access(parser)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit extract` with parsed arguments. Returns the exit status: 0.

    Raises ConfigError if --model is given together with --config or --set.
    """
    from asrkit.config.experiment_config import load_config
    from asrkit.stages.extraction import extract, extract_without_archives, model_features

    if args.model is None:
        # The whole file is checked, so that a mistyped training setting is found now and not hours later.
        features = load_config(args.config, args.overrides).features
    elif args.config is not None or args.overrides:
        raise ConfigError("--model: the settings are the model's; leave --config and --set out")
    else:
        features = model_features(args.model)
    if args.backend is not None:
        features = replace(features, backend=args.backend)
    access = audio_access(args, verify=args.verify)
    make = extract_without_archives if args.no_archives else extract
    make(args.data_dirs, features, access=access, num_jobs=args.nj, force=args.force, report=_report)
    return 0


def _report(data_dir: Path, is_new: bool) -> None:
    tell(f"{data_dir}: {'features written' if is_new else 'features are up to date'}")
