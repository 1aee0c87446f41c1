"""`asrkit models`: list the models that have a name for --model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from asrkit.cli.options import add
from asrkit.errors import AsrkitError
from asrkit.inference.model_list import ModelInfo, known_models
from asrkit.io.json_text import json_text

_HEADS = ("name", "language", "phones", "trained on", "size", "PER", "license")
_UNKNOWN = "-"


DESCRIPTION = (
    "List the models that have a name, with what their files tell about them. "
    "asrkit info MODEL tells more of one model."
)
EXAMPLES = (
    "asrkit models",
    "asrkit models --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--json", "Each model is one line")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit models` with parsed arguments. Returns the exit status: 0, or 1 if a file is faulty."""
    found = list(known_models())
    models = [each for each in found if isinstance(each, ModelInfo)]
    if args.json:
        for model in models:
            print(json_text(_values(model)))
    elif models:
        print(_table([_HEADS, *map(_row, models)]))
    faults = [each for each in found if isinstance(each, AsrkitError)]
    for fault in faults:
        print(f"asrkit models: error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _row(model: ModelInfo) -> tuple[str, ...]:
    corpus = model.corpus
    known = ("language", "name", "license")
    language, trained_on, license_name = (getattr(corpus, name, None) or _UNKNOWN for name in known)
    if corpus is not None and corpus.is_synthetic:
        trained_on += " (synthetic)"
    size, per = f"{model.size / 1e6:.1f} MB", str(model.test or _UNKNOWN)
    return model.name, language, str(len(model.phones)), trained_on, size, per, license_name


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _values(model: ModelInfo) -> dict[str, object]:
    corpus, test = model.corpus, model.test
    return {
        "name": model.name,
        "file": str(model.path),
        "size": model.size,
        "phones": model.phones,
        "streaming": model.is_streaming,
        "language": None if corpus is None else corpus.language,
        "trained_on": None if corpus is None else corpus.name,
        "synthetic": None if corpus is None else corpus.is_synthetic,
        "license": None if corpus is None else corpus.license,
        "attribution": None if corpus is None else corpus.attribution,
        "per": None if test is None else round(test.per, 2),
        "test_set": None if test is None else test.name,
        "test_utterances": None if test is None else test.num_utterances,
        "test_phones": None if test is None else test.num_phones,
    }
