"""`asrkit plot WHAT`: pictures of what a model does with recordings."""

from __future__ import annotations

import argparse
import sys

from asrkit.audio.inputs import find_inputs
from asrkit.cli.help_text import HelpFormatter, examples
from asrkit.cli.options import add, add_channel, add_device, add_inputs, load_chosen_model
from asrkit.cli.results import ResultWriter
from asrkit.errors import ModelError, expected

DESCRIPTION = "Draw what a model does with recordings."
_ATTENTION = (
    "Draw where an attention decoder looks as it writes the phones of a recording: a PNG picture, and the numbers as "
    "JSON. A recording of more than 15 s has several pictures."
)
EXAMPLES = (
    "asrkit plot attention --model EXP --out pictures speech.wav",
    "asrkit plot attention --model model.onnx --out pictures --ipa interviews",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a verb for each kind of picture to the parser, with its options."""
    kinds = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    attention = kinds.add_parser(
        "attention",
        help="where an attention decoder looks",
        description=_ATTENTION,
        epilog=examples(EXAMPLES),
        allow_abbrev=False,
        formatter_class=HelpFormatter,
    )
    add(attention, "--model", "It must have an attention decoder", required=True)
    add(
        attention, "--out", "It gets NAME.png, or NAME.1.png and so on, and NAME.json for each recording", required=True
    )
    add_inputs(attention)
    add_channel(attention)
    add(attention, "--ipa")
    add_device(attention)


def run(args: argparse.Namespace) -> int:
    """Run `asrkit plot` with parsed arguments. Returns the exit status: 0, or 1 if a recording failed.

    Raises:
        ModelError: the model cannot be loaded, or it has no attention decoder.
    """
    inputs = find_inputs(args.inputs, args.list)
    named = [(each.name, each.key) for each in inputs if each.fault is None]
    writer = ResultWriter("json", args.out, [name for name, _ in named], [key for _, key in named])

    # These take some tenths of a second.
    from asrkit.inference.hypothesis import ipa_symbols
    from asrkit.inference.recognizer import Recognizer, open_model
    from asrkit.stages.plotting import plot_attention

    recognizer, num_failed = Recognizer(load_chosen_model(args, args.model, open_model)), 0
    symbols = ipa_symbols(recognizer.tokens) if args.ipa else {}
    with writer.locked("plot"):
        for each in inputs:
            try:
                plot = plot_attention(recognizer, each, args.channel, symbols)
            except ModelError:
                raise
            except Exception as error:
                num_failed += 1
                print(f"asrkit plot: error: {expected(error, each.name)}", file=sys.stderr, flush=True)
                continue
            for suffix, content in plot.files():
                writer.write_file(args.out / f"{each.key}{suffix}", content)
    if num_failed:
        print(f"asrkit plot: {num_failed} of {len(inputs)} files failed", file=sys.stderr)
    return 1 if num_failed else 0
