"""`asrkit train`: train an acoustic model on data directories with features."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, add_config, add_training_device, training_overrides
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
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
    add(parser, "--train", "It needs features", required=True)
    add(parser, "--dev", "It needs features. The weights that are best on it are kept", required=True)
    add(parser, "--tokens", required=True)
    add(parser, "--lm", shown="none")
    add(parser, "--out", "It becomes an experiment directory", required=True)
    add_training_device(parser)
    add(parser, "--resume")
    add(parser, "--log-gradients", "They go to gradients.csv and gradients.png in --out, after each epoch")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit train` with parsed arguments. Returns the exit status: 0."""
    config = load_config(args.config, ExperimentConfig, training_overrides(args))
    data = TrainingData(args.train, args.dev, args.tokens, args.lm, args.log_gradients)
    trained = train(data, args.out, config, resume=args.resume, force=args.force, report=tell)
    tell(trained.line())
    if args.log_gradients and trained.result is None:
        tell(f"{args.out}: no gradients logged, as nothing was trained; give --force to train anew")
    return 0
