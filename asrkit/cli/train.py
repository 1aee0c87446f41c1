"""`asrkit train`: train an acoustic model on data directories with features."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from asrkit.cli.options import add, add_config, add_training_device, training_overrides
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.errors import ConfigError
from asrkit.io.numbers import parse_number
from asrkit.io.tell import tell
from asrkit.stages.training import TrainingData, train

DESCRIPTION = (
    "Train an acoustic model on data directories with features. The best weights on the development set are kept."
)
EXAMPLES = (
    "asrkit train --config conf/blstm_ctc.yaml --train DATA/train --dev DATA/dev --tokens DATA/tokens.txt "
    "\\\n      --lm DATA/lm.arpa --out EXP",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_config(parser)
    add(
        parser,
        "--train",
        "It needs features. May be given several times; DATA=2 takes each utterance twice in an epoch, "
        "DATA=0.5 half of them",
        required=True,
        action="append",
    )
    add(parser, "--dev", "It needs features. The weights that are best on it are kept", required=True)
    add(parser, "--tokens", required=True)
    add(parser, "--lm", shown="none")
    add(parser, "--out", "It becomes an experiment directory", required=True)
    add_training_device(parser)
    add(parser, "--resume")
    add(parser, "--log-gradients", "They go to gradients.csv and gradients.png in --out, after each epoch")
    add(parser, "--force")


def _weighted(given: Sequence[Path]) -> Path | dict[Path, float]:
    """The directory to train on, or several with weights. Raises ConfigError for a faulty or repeated one."""
    weights: dict[Path, float] = {}
    for path in given:
        name, _, text = str(path).rpartition("=")
        weight = 1.0 if path.exists() or not name else parse_number(text, 0.0)
        if not weight:
            raise ConfigError(f"--train {path}: expected DATA, or DATA=WEIGHT with a number above 0")
        data_dir = Path(name) if not path.exists() and name else path
        if data_dir in weights:
            raise ConfigError(f"--train {data_dir}: given twice; give {data_dir}=2 to take it twice")
        weights[data_dir] = weight
    return given[0] if [*weights.items()] == [(given[0], 1.0)] else weights


def run(args: argparse.Namespace) -> int:
    """Run `asrkit train` with parsed arguments. Returns the exit status: 0."""
    config = load_config(args.config, ExperimentConfig, training_overrides(args))
    data = TrainingData(_weighted(args.train), args.dev, args.tokens, args.lm, args.log_gradients)
    trained = train(data, args.out, config, resume=args.resume, force=args.force, report=tell)
    tell(trained.line())
    if args.log_gradients and trained.result is None:
        tell(f"{args.out}: no gradients logged, as nothing was trained; give --force to train anew")
    return 0
