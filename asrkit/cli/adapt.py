"""`asrkit adapt`: train a model further on minutes of your own recordings, so that it is better on them."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, add_set, add_training_device, training_overrides
from asrkit.io.tell import tell
from asrkit.stages.adaptation import AdaptationData, adapt

DESCRIPTION = (
    "Train a model further on your own recordings. The new experiment keeps the better of the old and the new weights."
)
EXAMPLES = (
    "asrkit extract mydata --model english",
    "asrkit adapt --model english --data mydata --out adapted",
    "asrkit adapt --model english --data mydata --out adapted --set training.num_epochs=20",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--model", "It is the model to begin with", required=True)
    add(parser, "--data", "It needs transcripts, and features that asrkit extract --model MODEL made", required=True)
    add(parser, "--out", "It becomes an experiment directory", required=True)
    add(parser, "--phone-map", "A symbol without a phone is left out", shown="none, symbols are phones of the model")
    add(parser, "--new-phones", "Each new phone starts from the phone of the same name, or from that of --phone-map")
    add_set(parser, "Only settings of the section training can be given")
    add_training_device(parser)
    add(parser, "--resume")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit adapt` with parsed arguments. Returns the exit status: 0."""
    data = AdaptationData(args.model, args.data, args.phone_map, args.new_phones)
    adapted = adapt(data, args.out, training_overrides(args), resume=args.resume, force=args.force, report=tell)
    if not adapted.is_new:
        print(f"{adapted.directory}: adaptation is up to date")
    print(*adapted.lines, sep="\n")
    return 0
