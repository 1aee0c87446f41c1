"""`asrkit info MODEL`: show everything that is known of one model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from asrkit.cli.options import add
from asrkit.inference.model_list import ModelDetails, read_model_details
from asrkit.io.json_text import json_text

DESCRIPTION = (
    "Show what there is to know of one model: its kind, phones, size, network, features, training corpus, licence, and "
    "the settings of its search."
)
EXAMPLES = ("asrkit info english", "asrkit info EXP --json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument(
        "model", metavar="MODEL", help="experiment directory, exported file, or name (see asrkit models)"
    )
    add(parser, "--json", "It has all settings")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit info` with parsed arguments. Returns the exit status: 0."""
    details = read_model_details(args.model)
    if args.json:
        values = asdict(details)
        print(json_text({**values, "path": str(details.path), "per": details.test and round(details.test.per, 2)}))
        return 0
    rows = list(_rows(details))
    width = max(len(name) for name, _ in rows)
    print(*(f"{name:{width}}  {value}" for name, value in rows), sep="\n")
    return 0


def _rows(details: ModelDetails) -> Iterator[tuple[str, str]]:
    features, model, corpus = details.features, details.model, details.corpus
    yield "model", f"{details.name}, {details.kind}"
    yield "file", f"{details.path}, {details.size / 1e6:.1f} MB"
    yield "phones", f"{len(details.phones)}: {' '.join(details.phones)}"
    direction = "bidirectional" if model.bidirectional else "unidirectional"
    kind = model.kind_of_layers if model.has_attention else f"{direction} {model.kind_of_layers}"
    yield "network", f"{model.num_layers} layers of {model.hidden_size}, {kind}; output: {model.head}"
    yield "size of network", f"{details.num_numbers:,} numbers (weights and constants)"
    frames = f"{features.frame_length_ms:g} ms every {features.frame_shift_ms:g} ms, {features.sample_rate} Hz"
    yield "features", f"{features.kind}, {frames}, deltas up to order {features.delta_order}"
    yield "front end", f"{model.frontend}; {model.stack} frames in a step, a step every {model.skip} frames"
    yield "CMVN", features.cmvn
    yield "streams", "yes" if details.is_streaming else "no"
    if corpus is not None:
        yield "trained on", f"{corpus.name} ({corpus.language}{', synthetic' if corpus.is_synthetic else ''})"
        yield "licence", "; ".join(filter(None, (corpus.license, corpus.attribution))) or "none stated"
    else:
        yield "trained on", "not stated"
    if details.test is not None:
        yield "PER", str(details.test)
    settings = ", ".join(f"{name} {value}" for name, value in asdict(details.decoding).items() if value is not None)
    yield "search", f"{settings} ({'tuned' if details.is_tuned else 'not tuned'})"
    yield "language model", "yes" if details.has_lm else "no"
