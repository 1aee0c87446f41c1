"""Completion of the command line by the tab key: `asrkit --print-completion SHELL` prints a script for the shell."""

from __future__ import annotations

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")

# What prints the names of the models that there are now, one a line.
_NAMES = r"""asrkit models --json 2>/dev/null | sed -n 's/^{"name": "\([^"]*\)".*/\1/p'"""
# A model has a name, or it is a file or a directory. Bash treats what is found as files since the function's name has
# the word.
_MODEL = {
    "bash": "_asrkit_models_and_files",
    "zsh": "_asrkit_models_and_files",
    "tcsh": "f",
    "preamble": {
        "bash": f'_asrkit_models_and_files() {{\n  compgen -W "$({_NAMES})" -- "$1"\n  compgen -f -- "$1"\n}}',
        "zsh": f'_asrkit_models_and_files() {{\n  local names=(${{(f)"$({_NAMES})"}})\n'
        '  _alternative "models:model:compadd -a names" "files:file:_files"\n}',
    },
}


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script that has `shell` complete verbs, options, choices, files, directories and models.

    Args:
        parser: that of the whole command, which knows the options of all verbs.
        shell: one of SHELLS.
    """
    import shtab

    _mark(parser)
    return shtab.complete(parser, shell)


def kind_of_value(metavar: str) -> Any:
    """How the values that help calls `metavar` are completed, as shtab takes it; None for what is no file or model."""
    import shtab

    kinds = dict.fromkeys(("FILE", "CTM", "REF", "HYP"), shtab.FILE)
    kinds |= dict.fromkeys(("DIR", "DATA", "EXP"), shtab.DIRECTORY)
    return (kinds | {"MODEL": _MODEL}).get(metavar)


def _mark(parser: argparse.ArgumentParser) -> None:
    """Tell shtab what the values of all arguments are, by the attribute that it looks for."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _mark(below)
        elif (kind := kind_of_value(str(action.metavar))) is not None:
            vars(action)["complete"] = kind
