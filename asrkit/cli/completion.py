"""Completion of command lines with the tab key: `asrkit --print-completion SHELL` prints a script for the shell."""

from __future__ import annotations

import argparse
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")

# A command that prints the names of all models that exist now, one per line.
_NAMES = r"""asrkit models --json 2>/dev/null | sed -n 's/^{"name": "\([^"]*\)".*/\1/p'"""
# A model is a name, a file or a directory. The word "files" in the name of the function makes Bash treat results as
# files.
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
    """The script with which `shell` completes verbs, options, choices, files, directories and models.

    Args:
        parser: that of the whole command, with the options of all verbs.
        shell: one of SHELLS.
    """
    import shtab

    _mark(parser)
    return shtab.complete(parser, shell)


def kind_of_value(metavar: str) -> Any:
    """How shtab completes values that the help calls `metavar`; None if they are not files, directories or models."""
    import shtab

    kinds = dict.fromkeys(("FILE", "CTM", "REF", "HYP"), shtab.FILE)
    kinds |= dict.fromkeys(("DIR", "DATA", "EXP"), shtab.DIRECTORY)
    return (kinds | {"MODEL": _MODEL}).get(metavar)


def _mark(parser: argparse.ArgumentParser) -> None:
    """Tell shtab how to complete the values of all arguments, by the attribute that shtab looks for."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _mark(below)
        elif (kind := kind_of_value(str(action.metavar))) is not None:
            vars(action)["complete"] = kind
