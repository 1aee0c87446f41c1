"""The `asrkit` command: finds the verb, loads only its module, and turns expected errors into plain lines."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import resource
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from asrkit import __version__
from asrkit.cli import interrupts
from asrkit.cli.completion import SHELLS, completion_script
from asrkit.cli.help_text import HelpFormatter, examples
from asrkit.cli.options import COMMON, add, cut
from asrkit.cli.spellings import in_new_spelling, unknown, unknown_option
from asrkit.cli.terminal import STANDARD_ERROR, STANDARD_OUTPUT, open_closed_streams, printable_output
from asrkit.cluster import PROCESSES, on_executor
from asrkit.errors import AsrkitError, ConfigError, PeerError, printable, system_fault
from asrkit.extras import TRAINING, expect_packages, named_when_missing
from asrkit.io.tell import quiet

# verb -> (module, one-line help). The help stands here so that `asrkit --help` loads none of the modules. A module has
# configure(parser), run(args), DESCRIPTION, and EXAMPLES, which are command lines.
VERBS = {
    "prepare": ("asrkit.cli.prepare", "make data directories and the token table from a corpus"),
    "validate": ("asrkit.cli.validate", "check a data directory and list every fault"),
    "split": ("asrkit.cli.split", "divide a big data directory into shards"),
    "extract": ("asrkit.cli.extract", "compute the features of data directories"),
    "train-lm": ("asrkit.cli.lm", "train a phone language model"),
    "train-nlm": ("asrkit.cli.train_nlm", "train a neural language model"),
    "perplexity": ("asrkit.cli.perplexity", "measure how well language models know a text"),
    "sample-lm": ("asrkit.cli.sample_lm", "print sentences that a language model makes up"),
    "train": ("asrkit.cli.train", "train an acoustic model"),
    "adapt": ("asrkit.cli.adapt", "train a model further on your own recordings"),
    "decode": ("asrkit.cli.decode", "recognise the utterances of a data directory"),
    "rescore": ("asrkit.cli.rescore", "rank the best results again with other language models"),
    "tune": ("asrkit.cli.tune", "find the best search settings on a development set"),
    "score": ("asrkit.cli.score", "compute the phone error rate between two files of transcripts"),
    "compare": ("asrkit.cli.compare", "compare the phone error rates of two systems"),
    "report": ("asrkit.cli.report", "show the errors of a decoded data directory"),
    "analyze": ("asrkit.cli.analyze", "tell errors of the search from errors of the model"),
    "table": ("asrkit.cli.table", "show several experiments side by side"),
    "boundaries": ("asrkit.cli.boundaries", "measure how far phone times are from the true ones"),
    "export": ("asrkit.cli.export", "write a trained model to one file that runs without PyTorch"),
    "transcribe": ("asrkit.cli.transcribe", "recognise recordings"),
    "stream": ("asrkit.cli.stream", "recognise speech while it is being spoken"),
    "align": ("asrkit.cli.align", "find the times of known phones in recordings"),
    "plot": ("asrkit.cli.plot", "draw what a model does with recordings"),
    "serve": ("asrkit.cli.serve", "open a web page and an HTTP API that recognise and align"),
    "models": ("asrkit.cli.models", "list the models that have a name"),
    "info": ("asrkit.cli.info", "show what there is to know of one model"),
    "lesson": ("asrkit.cli.lesson", "work through a lesson of the textbook"),
}

ALIASES = {"analyse": "analyze"}
# They need the extra `train`, some of it at their end only. Others say so when they come to need a package of it.
_OF_TRAINING = ("train", "train-nlm", "adapt", "decode", "tune", "analyze", "export", "lesson")


_PRINT = "--print-completion"
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def main(argv: Sequence[str] | None = None) -> int:
    """Run `asrkit ARGV`. Returns the exit status: 0 success, 1 failure, 2 wrong usage, 128 + N after signal N.

    Without `argv` the process is the command's own: signals are caught, and one that interrupts it ends the process.
    """
    is_process, is_verbose = argv is None, False
    argv = list(sys.argv[1:] if argv is None else argv)
    verb = "" if argv[:1] and argv[0].startswith(_PRINT) else next((each for each in argv if each[:1] != "-"), "")
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
                is_verbose = args.verbose
                executor, num_jobs = getattr(args, "executor", PROCESSES), getattr(args, "nj", 1)
                with named_when_missing(), quiet(args.quiet), on_executor(executor, num_jobs):
                    status: int = args.run(args)
                if is_verbose:
                    _tell_cost(verb)
            except SystemExit as end:  # of argparse, which has printed help or what is wrong
                sys.stdout.flush()
                raise end
            sys.stdout.flush()  # here, where it can be reported that the output has nowhere to go
            return status
        except BaseException as error:
            status = _report_error(verb, error, is_verbose)
            if is_process and status > 128:
                os._exit(status)  # the usual way out would wait for threads, which may have hours to do
            return status


def _tell_cost(verb: str) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _RSS_UNIT
    print(f"asrkit {verb}: {seconds:.1f} CPU seconds, at most {memory / 1e6:.0f} MB of memory", file=sys.stderr)


def _report_error(verb: str, error: BaseException, is_verbose: bool = False) -> int:
    """Make one line of an error that is expected, and return the exit status; raise any other error again."""
    is_interrupt = isinstance(error, KeyboardInterrupt) or interrupts.was_interrupted()
    if is_interrupt and not isinstance(error, PeerError):  # that one is why the others of a job are interrupted
        # torchrun ends the other processes of a job by SIGTERM when one has failed, which says why.
        is_told = "TORCHELASTIC_RUN_ID" in os.environ and interrupts.exit_status() == 128 + signal.SIGTERM
        return _report(verb, *[] if is_told else ["interrupted"], status=interrupts.exit_status())
    if isinstance(error, BrokenPipeError) and error.filename in (STANDARD_OUTPUT, STANDARD_ERROR):
        return _report(verb)  # the reader of our output (head, say) has gone
    known = error if isinstance(error, AsrkitError) else system_fault(error)
    if known is not None:
        return _report(verb, *cut("error", str(known).split("\n"), is_verbose))
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        shown = printable(error.object[max(0, error.start - 60) : error.end + 60])
        return _report(verb, f"error: {shown}: a name that is not UTF-8; rename that file or directory")
    raise error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _print_message(self, message: str, file: Any = None) -> None:
        (file or sys.stderr).write(message)  # argparse's own takes no notice of output that cannot be written


class _PrintCompletion(argparse.Action):
    """Prints the script that completes command lines, and ends the command."""

    def __call__(self, parser: argparse.ArgumentParser, args: Any, values: Any, option: Any = None) -> None:
        whole, _ = _parsers(VERBS)
        print(completion_script(whole, values))
        parser.exit()


def verb_parser(verb: str) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser of the whole command, which knows the options of one verb, and the parser of that verb."""
    verb = ALIASES.get(verb, verb)
    parser, of_verbs = _parsers([verb])
    return parser, of_verbs.get(verb, parser)


def _parsers(loaded: Collection[str]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the whole command, which knows the options of the verbs `loaded`, and the parsers of all verbs."""
    parser = _Parser(
        prog="asrkit", description="Phoneme recognition with recurrent networks and CTC.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"asrkit {__version__}")
    parser.add_argument(
        _PRINT,
        action=_PrintCompletion,
        choices=SHELLS,
        metavar="SHELL",
        help=f"print what completes command lines by the tab key: {', '.join(SHELLS)} (docs/command-line.md)",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    of_verbs: dict[str, argparse.ArgumentParser] = {}
    for name, (module_name, summary) in VERBS.items():
        aliases = [alias for alias, meant in ALIASES.items() if meant == name]
        each = verbs.add_parser(name, aliases=aliases, help=summary, allow_abbrev=False, formatter_class=HelpFormatter)
        of_verbs[name] = each
        if name in loaded:
            module = importlib.import_module(module_name)
            each.description, each.epilog = module.DESCRIPTION, examples(module.EXAMPLES)
            module.configure(each)
            for leaf in parsers_below(each).values() or [each]:
                for option in COMMON:
                    add(leaf, option)
            each.set_defaults(run=module.run)
    return parser, of_verbs


def parsers_below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """The parsers of a verb that has verbs of its own, by their names; none for others."""
    below = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next(below, {})


def _parse(verb: str, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with the verb's function as `run`. Only the verb's module is loaded."""
    parser, leaf = verb_parser(verb)
    begin = 0
    if verb:
        begin = argv.index(verb) + 1
        if leaf is parser:
            parser.error(unknown("verb", verb, [*VERBS, *ALIASES], parser))
    if names := parsers_below(leaf) if verb else {}:
        name = argv[begin] if begin < len(argv) else ""
        if name in names:
            leaf, begin = names[name], begin + 1
        elif name and not name.startswith("-"):
            leaf.error(unknown("name", name, names, leaf))
    own, notes = in_new_spelling(ALIASES.get(verb, verb), leaf, argv[begin:])
    if (fault := unknown_option(leaf, own)) is not None:
        leaf.error(fault)
    args = parser.parse_args([*argv[:begin], *own])
    if interrupts.was_interrupted():
        raise KeyboardInterrupt
    for note in notes:
        print(f"asrkit {verb}: note: {note}", file=sys.stderr)
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
