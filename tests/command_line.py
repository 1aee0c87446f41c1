"""The parsers of all verbs, and the tables of docs/command-line.md: `python -m tests.command_line` writes them anew."""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from asrkit.cli.main import VERBS, parsers_below, verb_parser
from asrkit.cli.options import OPTIONS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "command-line.md"
VERB_TABLE, OPTION_TABLE = "| verb | what it does |", "| option | meaning | verbs |"


@cache
def leaf_parsers() -> list[tuple[str, argparse.ArgumentParser]]:
    """Each verb, or verb and name below it, with its parser."""
    leaves = []
    for verb in VERBS:
        _, parser = verb_parser(verb)
        below = parsers_below(parser)
        leaves += [(f"{verb} {name}", each) for name, each in below.items()] or [(verb, parser)]
    return leaves


def options_of(parser: argparse.ArgumentParser) -> Mapping[str, argparse.Action]:
    """The options of a parser but for --help, by their names."""
    named = {name: action for action in parser._actions for name in action.option_strings}
    return {name: action for name, action in named.items() if name not in ("-h", "--help")}


def tables() -> Mapping[str, list[str]]:
    """The rows of each table of the page, by its head."""
    verbs_of = defaultdict(list)
    leaves = list(leaf_parsers())
    for verb, parser in leaves:
        for name in options_of(parser):
            verbs_of[name].append(verb)
    option_rows = []
    for name, option in OPTIONS.items():
        meaning = option.meaning.replace("|", "\\|").replace("[^", "\\[^")  # no footnote
        value = f" {option.metavar}".replace("|", "\\|") if option.metavar else ""
        verbs = "all" if len(verbs_of[name]) == len(leaves) else ", ".join(verbs_of[name])
        option_rows.append(f"| `{name}{value}` | {meaning} | {verbs} |")
    verb_rows = [f"| `asrkit {verb}` | {summary} |" for verb, (_, summary) in VERBS.items()]
    return {VERB_TABLE: verb_rows, OPTION_TABLE: option_rows}


def with_tables(page: str) -> str:
    """The page with the tables as they should be."""
    lines, result = page.split("\n"), []
    rows = tables()
    while lines:
        line = lines.pop(0)
        result.append(line)
        if line in rows:
            result += ["|---" * (line.count("|") - 1) + "|", *rows[line]]
            while lines and lines[0].startswith("|"):
                lines.pop(0)
    return "\n".join(result)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
