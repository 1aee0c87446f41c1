"""Names on the command line: old ones, which still work, and the nearest known one for an unknown name."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence

# verb -> old option -> new option, which takes the same value
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
# verb -> the option that replaces its former positional argument
OLD_ARGUMENTS = {"train-lm": "--train", "report": "--model", "export": "--model"}


def in_new_spelling(verb: str, parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Replace old names in the arguments of a verb. Returns the new arguments, and a line for each replacement.

    `parser` is that of the verb, which knows only the new names.
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
            if verb in OLD_ARGUMENTS:  # the next argument gets the name of an option
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
    """A message about the first option that the parser does not have. None if it has all of them."""
    known = [name for action in parser._actions for name in action.option_strings]
    for token in argv:
        name = token.partition("=")[0]
        if token == "--":
            break
        if name.startswith("--") and " " not in name and name not in known:
            return unknown("option", name, known, parser)
    return None


def unknown(kind: str, name: str, known: Iterable[str], parser: argparse.ArgumentParser) -> str:
    """A message about an unknown name, with the most similar known one."""
    near = difflib.get_close_matches(name, list(known), n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"unknown {kind} {name}; {meant}{parser.prog} --help lists the {kind}s"
