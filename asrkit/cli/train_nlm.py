"""`asrkit train-nlm`: train a neural language model of phones, or of the characters of a text."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, add_config, add_training_device, training_overrides
from asrkit.errors import ConfigError
from asrkit.io.tell import tell
from asrkit.stages.neural_lm import LmSource, train_neural_lm
from asrkit.training.lm_config import load_lm_config

DESCRIPTION = (
    "Train a neural language model (Elman, GRU, LSTM or Transformer) on the transcripts of a data directory, or on the "
    "characters of a text. The weights that are best on the development set are kept."
)
EXAMPLES = (
    "asrkit train-nlm --config conf/lm/lstm.yaml --train DATA/train --dev DATA/dev --tokens DATA/tokens.txt \\\n"
    "      --out EXP/lstm_lm",
    "asrkit train-nlm --config conf/lm/gru.yaml --plain-text book.txt --out book_lm",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add_config(parser)
    add(parser, "--train", "Its transcripts are used", shown="none")
    add(parser, "--dev", "The weights that are best on its transcripts are kept", shown="none")
    add(parser, "--tokens", "It is the vocabulary", shown="none")
    note = "It takes the place of --train, --dev and --tokens: a line is a sentence, a character a token"
    add(parser, "--plain-text", note, shown="none")
    add(parser, "--out", "It gets the model as lm.npz", required=True)
    add_training_device(parser)
    add(parser, "--resume")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit train-nlm` with parsed arguments. Returns the exit status: 0.

    Raises ConfigError unless either the data or --plain-text is given.
    """
    of_data = (args.train, args.dev, args.tokens)
    if all(of_data) == bool(args.plain_text) or any(of_data) != all(of_data):
        raise ConfigError("give either --train, --dev and --tokens, or --plain-text")
    config = load_lm_config(args.config, training_overrides(args))
    trained = train_neural_lm(
        LmSource(*of_data, args.plain_text), args.out, config, resume=args.resume, force=args.force, report=tell
    )
    print(trained.line())
    if trained.epoch is not None:
        tell(f"{args.out}: written")
    return 0
