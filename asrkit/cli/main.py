"""The `asrkit` command: finds the verb, loads only its module, and turns expected errors into plain lines."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from asrkit import __version__
from asrkit.cli import interrupts
from asrkit.cli.terminal import STANDARD_ERROR, STANDARD_OUTPUT, open_closed_streams, printable_output
from asrkit.errors import AsrkitError, ConfigError, printable, system_fault
from asrkit.extras import TRAINING, expect_packages, named_when_missing

# verb -> (module, one-line help). The help stands here so that `asrkit --help` loads none of the modules.
VERBS = {
    "prepare": ("asrkit.cli.prepare", "make data directories and the token table from a corpus"),
    "validate": ("asrkit.cli.validate", "check a data directory and list every fault"),
    "extract": ("asrkit.cli.extract", "compute features and CMVN statistics of data directories"),
    "train-lm": ("asrkit.cli.lm", "train a phone n-gram language model"),
    "train": ("asrkit.cli.train", "train an acoustic model"),
    "adapt": ("asrkit.cli.adapt", "train a model further on recordings of one's own, and keep the better one"),
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
    "serve": ("asrkit.cli.serve", "a page and an HTTP API on this machine, for recordings and speech"),
    "models": ("asrkit.cli.models", "list the models that there are"),
    "lesson": ("asrkit.cli.lesson", "work through a lesson of the textbook: a table and pictures"),
}

ALIASES = {"analyse": "analyze"}
# They need the extra `train`, some of it at their end only. Others say so when they come to need a package of it.
_OF_TRAINING = ("train", "adapt", "decode", "tune", "analyze", "export", "lesson")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `asrkit ARGV`. Returns the exit status: 0 success, 1 failure, 2 wrong usage, 128 + N after signal N.

    Without `argv` the process is the command's own: signals are caught, and one that interrupts it ends the process.
    """
    is_process = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = next((argument for argument in argv if not argument.startswith("-")), "")
    if is_process:
        open_closed_streams()
    with printable_output():
        try:
            if is_process:
                interrupts.catch()
            try:
                args = _parse(verb, argv)
                if ALIASES.get(verb, verb) in _OF_TRAINING:
                    expect_packages(TRAINING)
                with named_when_missing():
                    status: int = args.run(args)
            except SystemExit as end:  # of argparse, which has printed help or what is wrong
                sys.stdout.flush()
                raise end
            sys.stdout.flush()  # here, where it can be reported that the output has nowhere to go
            return status
        except BaseException as error:
            status = _report_error(verb, error)
            if is_process and status > 128:
                os._exit(status)  # the usual way out would wait for threads, which may have hours to do
            return status


def _report_error(verb: str, error: BaseException) -> int:
    """Make one line of an error that is expected, and return the exit status; raise any other error again."""
    if isinstance(error, KeyboardInterrupt) or interrupts.was_interrupted():
        return _report(verb, "interrupted", status=interrupts.exit_status())
    if isinstance(error, BrokenPipeError) and error.filename in (STANDARD_OUTPUT, STANDARD_ERROR):
        return _report(verb)  # the reader of our output (head, say) has gone
    known = error if isinstance(error, AsrkitError) else system_fault(error)
    if known is not None:
        return _report(verb, *(f"error: {line}" for line in str(known).split("\n")))
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        shown = printable(error.object[max(0, error.start - 60) : error.end + 60])
        return _report(verb, f"error: {shown}: a name that is not UTF-8; rename that file or directory")
    raise error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own takes no notice of output that cannot be written


def _parse(verb: str, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with the verb's function as `run`. Only the verb's module is loaded."""
    parser = _Parser(
        prog="asrkit", description="Phoneme recognition with recurrent networks and CTC.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"asrkit {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, (module_name, summary) in VERBS.items():
        aliases = [alias for alias, meant in ALIASES.items() if meant == name]
        verb_parser = verbs.add_parser(name, aliases=aliases, help=summary, description=summary, allow_abbrev=False)
        if name == ALIASES.get(verb, verb):
            module = importlib.import_module(module_name)
            module.configure(verb_parser)
            verb_parser.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    if interrupts.was_interrupted():
        raise KeyboardInterrupt
    _check_names(args)
    return args


def _check_names(args: argparse.Namespace) -> None:
    """Raise ConfigError for a path with a line's end in it, but for one of many recordings: those fail one by one."""
    for name, value in vars(args).items():
        for each in value if isinstance(value, list) and name not in ("inputs", "files") else [value]:
            if isinstance(each, str | Path) and ("\n" in str(each) or "\r" in str(each)):
                raise ConfigError(f"{printable(each)}: an argument with a line's end in it; rename the file")


def _report(verb: str, *lines: str, status: int = 1) -> int:
    """Print the last lines of a command that failed; returns its status."""
    with contextlib.suppress(OSError):  # there is nobody to tell
        for line in lines:
            print(f"asrkit {verb}: {line}", file=sys.stderr, flush=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # keep Python from complaining about it again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return status
