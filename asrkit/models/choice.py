"""One choice of a setting. Settings can be checked without loading torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Choice:
    """The meaning of one value of a setting.

    Attributes:
        module: the module that implements it. It needs torch, so it is loaded only when it is used.
        name: the name of the class or function in the module.
        settings: other settings that this choice uses, and that not all choices use.
    """

    module: str
    name: str
    settings: Collection[str] = ()

    def load(self) -> Any:
        """Import the class or function."""
        return getattr(import_module(self.module), self.name)


def names_with(choices: Mapping[Any, Choice], setting: str) -> list[str]:
    """The names of the choices that use another setting."""
    return [name for name, choice in choices.items() if setting in choice.settings]
