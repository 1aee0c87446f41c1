"""Options that several verbs share, so that they are spelled and explained alike."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from asrkit.io.numbers import MAX_WHOLE, parse_number, parse_whole
from asrkit.scoring.protocols import AS_IS, PROTOCOLS

if TYPE_CHECKING:
    from asrkit.inference.onnx_model import OnnxModel


def print_warnings(verb: str, warnings: Iterable[str]) -> None:
    """One line each on standard error."""
    for warning in warnings:
        print(f"asrkit {verb}: warning: {warning}", file=sys.stderr)


def positive_int(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    value = parse_whole(text, low=1)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return value


def whole_number(text: str) -> int:
    """argparse type: a whole number of 64 bits, also below 0."""
    value = parse_whole(text, low=-MAX_WHOLE)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text!r}")
    return value


def finite_float(text: str) -> float:
    """argparse type: a number that is neither infinite nor NaN."""
    value = parse_number(text)
    if value is None:
        raise argparse.ArgumentTypeError(f"expected a finite number, found {text!r}")
    return value


def add_nj(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nj",
        type=positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="number of parallel jobs (default: one per core)",
    )


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """The option --model, by default the model of this name that comes with asrkit."""
    parser.add_argument(
        "--model",
        "--dir",
        metavar="MODEL",
        help="experiment directory, a file that asrkit export wrote, or the name of a recipe whose run left a model or "
        f"of a model that comes with asrkit; asrkit models lists them (default: {default})",
    )


def load_chosen_model(verb: str, name: str | None, default: str) -> OnnxModel:
    """The model that --model names, or the default. Tells on stderr when it has not learned from people."""
    from asrkit.inference.find_model import find_pretrained
    from asrkit.inference.recognizer import load_model  # takes some tenths of a second

    model = load_model(find_pretrained(default) if name is None else name)
    tell_doubt(verb, name or default, model)
    return model


def tell_doubt(verb: str, name: str, model: OnnxModel) -> None:
    """Tells on stderr when the model has not learned from people."""
    if model.corpus is not None and model.corpus.doubt is not None:
        print(f"asrkit {verb}: note: {name}: {model.corpus.doubt}", file=sys.stderr)


def add_ipa(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ipa", action="store_true", help="write phones in the alphabet of the IPA")


def add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="redo the step even when its output is up to date")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML configuration (default: built-in values)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.SETTING=VALUE",
        help="a setting in place of the configuration's, such as training.seed=2; as often as there are settings",
    )


def add_protocol(parser: argparse.ArgumentParser, *others: str) -> None:
    """The option --protocol; `others` are choices besides the protocols' names."""
    parser.add_argument(
        "--protocol",
        choices=[*PROTOCOLS, *others],
        default=AS_IS.name,
        help="folding and treatment of silence, see docs/scoring.md (default: %(default)s, nothing is folded)",
    )


def add_utt2spk(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--utt2spk", type=Path, metavar="FILE", help="speakers, for an interval over speakers too")


def add_audio_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audio-root",
        type=Path,
        metavar="DIR",
        help="where relative paths in wav.scp start (default: the current directory)",
    )
    parser.add_argument(
        "--allow-pipes",
        action="store_true",
        help="run the shell commands that wav.scp holds (only for data whose origin you trust)",
    )


def add_shown_audio(parser: argparse.ArgumentParser, default: int | None) -> None:
    parser.add_argument(
        "--audio",
        type=_number_or_all,
        default=default,
        metavar="N",
        help="utterances that can be heard on the page: a number, all or none (default: %(default)s)",
    )


def _number_or_all(text: str) -> int | None:
    value = {"none": 0}.get(text, parse_whole(text))
    if value is None and text != "all":
        raise argparse.ArgumentTypeError(f"expected a number, all or none, found {text!r}")
    return value


def add_channel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channel",
        type=_channel,
        default="error",
        metavar="mix|N",
        help="what to do with several channels: average them, or take channel N (from 0); without it they are an error",
    )


def _channel(text: str) -> int | str:
    if text in ("mix", "error"):  # "error" is the default
        return text
    channel = parse_whole(text)
    if channel is None:
        raise argparse.ArgumentTypeError(f"expected mix or a channel number from 0, found {text!r}")
    return channel
