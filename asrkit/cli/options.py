"""The options of all verbs. An option name has the same meaning in every verb.

`OPTIONS` lists all of them. A verb takes an option from it with `add`, and says what is special in this verb: one more
sentence, choices, or the default. docs/command-line.md shows the list.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from asrkit.cluster import PROCESSES, check_executor
from asrkit.device import CPU, check_device
from asrkit.errors import ConfigError
from asrkit.io.numbers import MAX_WHOLE, parse_number, parse_whole
from asrkit.scoring.protocols import AS_IS, PROTOCOLS

if TYPE_CHECKING:
    from asrkit.audio import AudioAccess
    from asrkit.inference.model import Model

    AnyModel = TypeVar("AnyModel", bound=Model)

_MOST_LINES = 20  # largest number of lines of one kind that are printed
_MOST_CHARACTERS = 1000  # largest length of a line


def cut(kind: str, messages: Iterable[str], is_verbose: bool) -> list[str]:
    """The messages as lines `KIND: MESSAGE`.

    Without --verbose, long lists and long lines are shortened, with a count of the rest. The end of a list or line
    stays, because it may draw a conclusion.
    """
    lines = [f"{kind}: {message}" for message in messages]
    if is_verbose:
        return lines
    more = len(lines) - _MOST_LINES - 1
    if more > 1:
        lines[_MOST_LINES:-1] = [f"{kind}: and {more} more; give --verbose to see all {len(lines)}"]
    return [_cut_line(line) for line in lines]


def _cut_line(line: str) -> str:
    more = len(line) - _MOST_CHARACTERS
    if more <= 0:
        return line
    half = _MOST_CHARACTERS // 2
    return f"{line[:half]} [{more} characters; give --verbose to see them] {line[-half:]}"


def print_warnings(args: argparse.Namespace, warnings: Iterable[str]) -> None:
    """Print warnings on standard error, one per line. A long list is shortened."""
    for line in cut("warning", warnings, args.verbose):
        print(f"asrkit {args.verb}: {line}", file=sys.stderr)


def positive_int(text: str) -> int:
    """argparse type: a whole number of at least 1. Raises ArgumentTypeError for other texts."""
    value = parse_whole(text, low=1)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return value


def whole_number(text: str) -> int:
    """argparse type: a 64-bit whole number, which can be negative. Raises ArgumentTypeError for other texts."""
    value = parse_whole(text, low=-MAX_WHOLE)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return value


def finite_float(text: str) -> float:
    """argparse type: a number that is neither infinite nor NaN. Raises ArgumentTypeError for other texts."""
    value = parse_number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a finite number, found {text!r}")
    return value


def _number_or_all(text: str) -> int | None:
    value = {"none": 0}.get(text, parse_whole(text))
    if value is None and text != "all":
        raise argparse.ArgumentTypeError(f"expected a number, all or none, found {text!r}")
    return value


def _channel(text: str) -> int | str:
    if text in ("mix", "error"):  # "error" is the default
        return text
    channel = parse_whole(text)
    if channel is None:
        raise argparse.ArgumentTypeError(f"expected mix or a channel number from 0, found {text!r}")
    return channel


def _port(text: str) -> int:
    value = parse_whole(text, high=2**16 - 1)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to 65535, found {text!r}")
    return value


def _checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """An argparse type from a function that returns right texts, and raises ConfigError for others."""

    def convert(text: str) -> str:
        try:
            return check(text)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _epsilons(text: str) -> tuple[float, ...]:
    values = tuple(value for field in text.split(",") if (value := parse_number(field.strip())))
    if len(values) <= text.count(",") or min(values) < 0:
        raise argparse.ArgumentTypeError(f"expected positive numbers with commas between, found {text!r}")
    return values


@dataclass(frozen=True)
class Option:
    """The meaning of an option in every verb that has it.

    Attributes:
        meaning: one sentence, without a full stop.
        metavar: the name of its value in the help; empty for a flag, which has no value.
        type: converts the text of the value.
    """

    meaning: str
    metavar: str = ""
    type: Callable[[str], Any] = str


OPTIONS: dict[str, Option] = {
    # What a verb reads
    "--model": Option("trained model: experiment directory, exported file, or name (see asrkit models)", "MODEL"),
    "--data": Option("data directory", "DATA", Path),
    "--train": Option("data directory to train on", "DATA", Path),
    "--dev": Option("data directory of the development set", "DATA", Path),
    "--test": Option("data directory of the test set", "DATA", Path),
    "--corpus": Option("directory of the corpus", "DIR", Path),
    "--config": Option("YAML file of settings", "FILE", Path),
    "--set": Option("one setting, such as training.seed=2; repeat the option for more", "SECTION.SETTING=VALUE"),
    "--tokens": Option("token table, which lists the phones", "FILE", Path),
    "--lm": Option("language model: an ARPA file, or the lm.npz of asrkit train-nlm", "FILE", Path),
    "--ref": Option("true phone times: a CTM file, or a data directory that has phones.ctm", "CTM", Path),
    "--hyp": Option("what was recognised or aligned: a file of transcripts or a CTM file", "FILE", Path),
    "--utt2spk": Option("speaker of each utterance; adds an interval over speakers", "FILE", Path),
    "--decode-dir": Option("directory that asrkit decode wrote", "DIR", Path),
    "--log-probs": Option("directory of the network's log-probabilities", "DIR", Path),
    "--list": Option("file that names more recordings, one a line", "FILE", Path),
    "--text": Option("file of transcripts: lines of `NAME phone phone ...`", "FILE", Path),
    "--phones": Option("phones of the one recording, with blanks between", "'PHONE PHONE ...'"),
    "--phone-map": Option("file of lines `symbol phone`: the model's phone for a symbol of yours", "FILE", Path),
    "--plain-text": Option("text to learn from, in UTF-8", "FILE", Path),
    "--microphone": Option("record from the microphone until Ctrl-C (needs the package sounddevice)"),
    # What it writes
    "--out": Option("directory to write", "DIR", Path),
    "--out-file": Option("file to write", "FILE", Path),
    "--json-file": Option("file to write all figures to, as JSON", "FILE", Path),
    "--html": Option("page to write, on which errors are seen and heard", "FILE", Path),
    "--format": Option("what to write of each recording", "FORMAT"),
    "--json": Option("print JSON"),
    "--ipa": Option("write phones in the International Phonetic Alphabet"),
    "--nbest": Option("number of best results to write of each utterance", "N", positive_int),
    "--ctm": Option("write phone times and confidences to phones.ctm, too"),
    "--no-archives": Option("store no features: they are computed from the audio whenever they are read"),
    "--log-gradients": Option("log norms of gradients by layer and lag"),
    "--by-phone": Option("print a table by phone, too"),
    "--int8": Option("store 8-bit weights, which make the file smaller"),
    # How it works
    "--nj": Option("number of parallel jobs", "N", positive_int),
    "--executor": Option(
        "where the jobs run: processes (of this machine), dask://HOST:PORT or dask-slurm (docs/scaling.md)",
        "NAME",
        _checked(check_executor),
    ),
    "--device": Option(
        "where the network runs: cpu, cuda (a GPU), or cuda:N (GPU number N, from 0; docs/gpu.md)",
        "NAME",
        _checked(check_device),
    ),
    "--force": Option("do the work again, even where the output is up to date"),
    "--resume": Option("go on from the checkpoint of an interrupted run"),
    "--verify": Option("read all audio and features again to find changes"),
    "--batch-size": Option("number of utterances in a batch; it changes the speed only", "N", positive_int),
    "--backend": Option("program that computes the features", "NAME"),
    "--quick": Option("run a small version, of a minute or less"),
    "--seed": Option("number that random choices start from", "N", whole_number),
    "--new-phones": Option("give the model a new output layer, for the phones of the transcripts"),
    "--number": Option("number of sentences to make up", "N", positive_int),
    "--temperature": Option("below 1 likely tokens get likelier, above 1 all more alike", "X", finite_float),
    "--smoothing": Option("how the language model gives probability to unseen n-grams", "NAME"),
    "--order": Option("length of the n-grams in phones", "N", positive_int),
    "--epsilon": Option("counts that Laplace smoothing adds, from unigrams on", "E1,E2,...", _epsilons),
    "--verbose": Option("print all faults of a long list, and at the end the time and memory used"),
    "--quiet": Option("print no progress, only results, warnings and errors"),
    # Audio
    "--channel": Option("channel of audio that has several: mix for their mean, or a number from 0", "mix|N", _channel),
    "--audio-root": Option("directory where relative paths in wav.scp start", "DIR", Path),
    "--allow-pipes": Option("run the shell commands in wav.scp; use it only for data that you trust"),
    "--audio": Option("number of utterances that can be heard on the page: a number, all or none", "N", _number_or_all),
    "--rate": Option("sampling rate of standard input or of the microphone", "HZ", positive_int),
    "--realtime": Option("read the file no faster than it plays"),
    "--endpoint": Option("length of the pause that ends an utterance", "SECONDS", finite_float),
    # Recognition and scoring
    "--method": Option("search", "NAME"),
    "--beam": Option("width of the beam search", "N", positive_int),
    "--no-lm": Option("search without the language model"),
    "--lm-weight": Option("weight of the language model", "X", finite_float),
    "--insertion-bonus": Option("bonus in nats for every phone", "X", finite_float),
    "--blank-penalty": Option("penalty in nats for the blank, in greedy search", "X", finite_float),
    "--ctc-weight": Option("weight of CTC beside an attention decoder", "X", finite_float),
    "--coverage-weight": Option("bonus in nats for each step that an attention decoder looked at", "X", finite_float),
    "--cmvn": Option("normalisation of the features", "MODE"),
    "--optional-silence": Option("phone that may stand between any two others, where it is heard", "PHONE"),
    "--protocol": Option("rules of scoring: how phones are folded and how silence counts (docs/scoring.md)", "NAME"),
    # The service
    "--host": Option("name or address to listen at", "HOST"),
    "--port": Option("port to listen at; 0 takes any free one", "PORT", _port),
    "--max-megabytes": Option("size of the largest upload", "N", positive_int),
    "--max-minutes": Option("length of the longest recording", "N", positive_int),
    # Corpora
    "--num-phones": Option("number of phones in the inventory", "N", whole_number),
    "--test-set": Option("test set of the corpus", "NAME"),
    "--split": Option("how much of the corpus is for testing", "NAME"),
    "--by": Option("what the split draws at random", "WHAT"),
    "--speaker-lists": Option("directory of train_spk.list, dev_spk.list, test_spk.list: the split", "DIR", Path),
    "--sentences": Option("sentences that the speaker lists take into dev and test", "WHICH"),
    "--table": Option("table of utterances, .csv or .tsv", "FILE", Path),
    "--labels": Option("kind of label files", "KIND"),
    "--tier": Option("tier of the TextGrids that holds the phones", "NAME"),
    "--silence": Option("phone for the empty intervals of TextGrids", "SYMBOL"),
    "--speaker": Option("regular expression whose first group finds the speaker in a path: '^([^/]+)/'", "REGEX"),
    "--dev-speakers": Option("speakers of dev: a share such as 0.1, a file of names, or A,B,C", "WHO"),
    "--test-speakers": Option("speakers of test: a share such as 0.1, a file of names, or A,B,C", "WHO"),
    "--shards": Option("number of shards", "N", positive_int),
    "--partial": Option("leave out audio without labels and labels without audio, with a warning"),
}  # fmt: skip

COMMON = ("--verbose", "--quiet")  # options of every verb

EXECUTOR_VARIABLE = "ASRKIT_EXECUTOR"

OFF = "off"  # the default of a flag, in the help


class Adds(Protocol):
    """A parser, or a group of options of a parser."""

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Add an argument or an option, as argparse does."""


def add(
    parser: Adds,
    name: str,
    note: str = "",
    *,
    shown: str = "",
    choices: Iterable[Any] | None = None,
    **settings: Any,
) -> None:
    """Add an option of OPTIONS. The help has its meaning, the `note`, its choices and its default.

    Args:
        parser, name: where to add which option.
        note: what is special in this verb, in one or more sentences.
        shown: the default in words. Without it, the help shows the value, or that the option is required.
        choices: allowed values.
        settings: argparse settings that can differ among verbs: default, required, action, dest.
    """
    option, about = OPTIONS[name], ""
    if choices is not None:
        settings["choices"] = list(choices)
        about = f": {', '.join(map(str, settings['choices']))}"
    if not option.metavar:
        settings.setdefault("action", "store_true")
        shown = shown or OFF
    else:
        settings |= {"metavar": option.metavar, "type": option.type}
    default = "required" if settings.get("required") else f"default: {shown or settings['default']}"
    sentences = f"{option.meaning}{about}{f'. {note}' if note else ''} ({default})"
    parser.add_argument(name, help=sentences.replace("%", "%%"), **settings)


def add_nj(parser: Adds, note: str = "") -> None:
    """Add the option --nj, the number of parallel jobs."""
    add(parser, "--nj", note, default=os.cpu_count() or 1, shown="one per core")


def add_executor(parser: Adds) -> None:
    """Add the option --executor, for verbs whose jobs can run on other machines."""
    chosen = os.environ.get(EXECUTOR_VARIABLE) or PROCESSES
    add(parser, "--executor", default=chosen, shown=f"${EXECUTOR_VARIABLE}, else {PROCESSES}")


def add_device(parser: Adds, note: str = "") -> None:
    """Add the option --device, for verbs that compute with a trained network."""
    add(parser, "--device", note, default=CPU)


def add_training_device(parser: Adds) -> None:
    """Add the option --device, for verbs that train. It is one more override of a setting."""
    add(parser, "--device", shown="the setting training.device")


def training_overrides(args: argparse.Namespace) -> list[str]:
    """The overrides that --set and --device give."""
    device: str | None = args.device
    return args.overrides if device is None else [*args.overrides, f"training.device={device}"]


def add_inputs(parser: Adds) -> None:
    """Add the recordings that a verb processes, and the option --list."""
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="FILE",
        help="recording of any audio format and sampling rate, a directory of recordings, a quoted pattern "
        "('*.wav', 'speech/**/*.flac'), or - for standard input",
    )
    add(parser, "--list", shown="none")


def add_model(parser: Adds, default: str, note: str = "") -> None:
    """Add the option --model. Its default is a model that comes with asrkit."""
    add(parser, "--model", note, shown=default)


def load_chosen_model(args: argparse.Namespace, default: str, load: Callable[[str | Path, str], AnyModel]) -> AnyModel:
    """Load the model that --model names, or the default one, onto --device. `load` takes the two.

    Prints a note if the model was not trained on human speech.
    """
    from asrkit.inference.find_model import find_pretrained

    model = load(find_pretrained(default) if args.model is None else args.model, args.device)
    tell_doubt(args.verb, args.model or default, model)
    return model


def tell_doubt(verb: str, name: str, model: Model) -> None:
    """Print a note to stderr if the model was not trained on human speech."""
    if model.corpus is not None and model.corpus.doubt is not None:
        print(f"asrkit {verb}: note: {name}: {model.corpus.doubt}", file=sys.stderr)


def add_config(parser: Adds) -> None:
    """Add the options --config and --set."""
    add(parser, "--config", shown="none, all settings have their defaults")
    add_set(parser, "It takes the place of that in --config")


def add_set(parser: Adds, note: str) -> None:
    """Add the option --set. `note` is what is special in this verb."""
    add(parser, "--set", note, action="append", default=[], dest="overrides", shown="none")


def add_protocol(parser: Adds, *others: str) -> None:
    """Add the option --protocol. `others` are choices besides the names of protocols."""
    add(parser, "--protocol", choices=[*PROTOCOLS, *others], default=AS_IS.name)


def add_decoded(parser: Adds) -> None:
    """Add options for an experiment and a data directory that it decoded."""
    add(parser, "--model", "This verb needs an experiment directory", required=True)
    add(parser, "--data", "It was decoded", required=True)
    add(parser, "--decode-dir", shown="MODEL/decode_SET; SET is the name of DATA")


def add_audio_access(parser: Adds) -> None:
    """Add the options that say how to reach audio: --audio-root, --allow-pipes and --channel."""
    add(parser, "--audio-root", shown="the current directory")
    add(parser, "--allow-pipes")
    add_channel(parser)


def add_channel(parser: Adds) -> None:
    """Add the option --channel."""
    add(parser, "--channel", default="error", shown="such audio is an error")


def audio_access(args: argparse.Namespace, *, verify: bool = False) -> AudioAccess:
    """The values of the options of `add_audio_access`."""
    from asrkit.audio import AudioAccess

    return AudioAccess(args.audio_root, args.allow_pipes, args.channel, verify)


def experiment_dir(name: str) -> Path:
    """The experiment directory that --model names: a path, or the name of a recipe that was run.

    A missing one is returned as a path; the step that needs it reports it.

    Raises:
        ModelError: `name` is an exported file.
    """
    from asrkit.errors import ModelError, location
    from asrkit.inference.find_model import find_model

    path = Path(name)
    if path.is_dir() or os.sep in name:
        return path
    try:
        found = find_model(name)
    except ModelError:
        return path
    if found.is_file():
        raise ModelError(f"{location(found)}an exported file; this verb needs an experiment directory (asrkit train)")
    return found
