"""Names on the command line: old ones that go on working, and the nearest one for a name that is unknown."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence

# verb -> old option -> new option. The new one takes the same value.
OLD_OPTIONS = {
    "prepare": {"--data": "--out", "--phones": "--num-phones", "--test": "--test-set"},
    "train-lm": {"--out": "--out-file"},
    "train": {"--dir": "--out"},
    "adapt": {"--dir": "--out"},
    "decode": {"--dir": "--model"},
    "tune": {"--dir": "--model", "--ref": "--data"},
    "analyze": {"--dir": "--model", "--ref": "--data"},
    "report": {"--ref": "--data"},
    "score": {"--json": "--json-file"},
    "boundaries": {"--json": "--json-file"},
    "export": {"--out": "--out-file", "--ref": "--dev"},
    "transcribe": {"--dir": "--model"},
    "align": {"--dir": "--model"},
    "stream": {"--dir": "--model"},
    "lesson": {"--text": "--plain-text"},
    "serve": {"--dir": "--model"},
}
# verb -> the option that now names what was its one argument without a name
OLD_ARGUMENTS = {"train-lm": "--train", "report": "--model", "export": "--model"}


def in_new_spelling(verb: str, parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of a verb with new names in place of old ones, and a line for each name that was replaced.

    `parser` is the verb's, which knows the new names only.
    """
    old, named = OLD_OPTIONS.get(verb, {}), OLD_ARGUMENTS.get(verb)
    takes_value = {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}
    renamed: list[str] = []
    notes: list[str] = []
    rest, has_ended = list(argv), False  # options end at `--`
    while rest:
        token = rest.pop(0)
        name, equals, value = token.partition("=")
        if has_ended or token == "-" or not token.startswith("-"):
            if named is not None:
                notes.append(f"{token} is now given by {named}")
                token, named = f"{named}={token}", None
        elif token == "--":
            has_ended = True
            if verb in OLD_ARGUMENTS:  # what follows gets a name
                continue
        else:
            if name in old:
                notes.append(f"{name} is now called {old[name]}")
                name = old[name]
                token = f"{name}{equals}{value}"
            if takes_value.get(name) and not equals and rest:
                renamed.append(token)
                token = rest.pop(0)
        renamed.append(token)
    return renamed, notes


def unknown_option(parser: argparse.ArgumentParser, argv: Iterable[str]) -> str | None:
    """What is wrong with the first option that a parser does not have; None where it has all of them."""
    known = [name for action in parser._actions for name in action.option_strings]
    for token in argv:
        name = token.partition("=")[0]
        if token == "--":
            break
        if name.startswith("--") and " " not in name and name not in known:
            return unknown("option", name, known, parser)
    return None


def unknown(kind: str, name: str, known: Iterable[str], parser: argparse.ArgumentParser) -> str:
    """A message on a name that is none of those `known`, with the one that is most like it."""
    near = difflib.get_close_matches(name, list(known), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown {kind} {name}; {meant}{parser.prog} --help lists the {kind}s"
