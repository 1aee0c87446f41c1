"""`asrkit train`: from data directories with features to a trained experiment."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrkit.cli.options import add_config, add_force
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.stages.training import TrainingData, train


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--train", type=Path, required=True, metavar="DIR", help="data directory to train on")
    parser.add_argument("--dev", type=Path, required=True, metavar="DIR", help="data directory to choose weights on")
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE", help="token table")
    parser.add_argument("--lm", type=Path, metavar="FILE", help="phone language model (ARPA) for decoding")
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory to write")
    parser.add_argument("--resume", action="store_true", help="go on from EXP's checkpoint, if there is one")
    parser.add_argument(
        "--log-gradients",
        action="store_true",
        help="after each epoch log norms of gradients, by layer and lag, into EXP/gradients.csv and gradients.png",
    )
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    config = load_config(args.config, ExperimentConfig, args.overrides)
    data = TrainingData(args.train, args.dev, args.tokens, args.lm, args.log_gradients)
    trained = train(data, args.dir, config, resume=args.resume, force=args.force, report=_tell)
    _tell(trained.line())
    if args.log_gradients and trained.result is None:
        _tell(f"{args.dir}: no gradients logged, as nothing was trained; give --force to train anew")
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr)
