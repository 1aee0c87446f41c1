"""The `asrkit` command: finds the verb, loads only its module, and turns expected errors into plain lines."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from asrkit import __version__
from asrkit.errors import AsrkitError

# verb -> (module, one-line help). The help stands here so that `asrkit --help` loads none of the modules.
VERBS = {
    "prepare": ("asrkit.cli.prepare", "make data directories and the token table from a corpus"),
    "validate": ("asrkit.cli.validate", "check a data directory and list every fault"),
    "extract": ("asrkit.cli.extract", "compute features and CMVN statistics of data directories"),
    "train-lm": ("asrkit.cli.lm", "train a phone n-gram language model"),
    "train": ("asrkit.cli.train", "train an acoustic model"),
    "decode": ("asrkit.cli.decode", "recognise the utterances of a data directory"),
    "tune": ("asrkit.cli.tune", "find decoding settings and calibrate confidences on a dev set"),
    "score": ("asrkit.cli.score", "phone error rate between two transcript files"),
    "compare": ("asrkit.cli.compare", "difference of two systems' phone error rates, and how sure it is"),
    "report": ("asrkit.cli.report", "phone error rate and error analysis of a decoded data directory"),
    "analyze": ("asrkit.cli.analyze", "search errors, model errors and confidences of a decoded data directory"),
    "table": ("asrkit.cli.table", "several experiments side by side: networks, costs and phone error rates"),
    "boundaries": ("asrkit.cli.boundaries", "how far phone times are from the true ones"),
    "export": ("asrkit.cli.export", "write a trained model as one ONNX file, and compare it with PyTorch"),
    "transcribe": ("asrkit.cli.transcribe", "recognise audio files"),
    "stream": ("asrkit.cli.stream", "recognise audio while it is being spoken"),
    "align": ("asrkit.cli.align", "find where known phones are in audio files"),
}

ALIASES = {"analyse": "analyze"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `asrkit ARGV`. Returns the exit status: 0 success, 1 failure, 2 wrong usage."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="asrkit", description="Phoneme recognition with recurrent networks and CTC.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"asrkit {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    chosen = next((argument for argument in argv if not argument.startswith("-")), None)
    for verb, (module_name, summary) in VERBS.items():
        aliases = [alias for alias, name in ALIASES.items() if name == verb]
        verb_parser = verbs.add_parser(verb, aliases=aliases, help=summary, description=summary, allow_abbrev=False)
        if verb == ALIASES.get(chosen or "", chosen):
            module = importlib.import_module(module_name)
            module.configure(verb_parser)
            verb_parser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()  # here, where it can be reported that the output has nowhere to go
        return status
    except AsrkitError as error:
        for line in str(error).split("\n"):
            print(f"asrkit {args.verb}: error: {line}", file=sys.stderr)
        return 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # else the reader of our output (head, say) has gone
            where = error.filename2 or error.filename or "standard output"
            print(f"asrkit {args.verb}: error: {where}: cannot be used ({error.strerror or error})", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # keep Python from complaining about it again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"asrkit {args.verb}: interrupted", file=sys.stderr)
        return 130
