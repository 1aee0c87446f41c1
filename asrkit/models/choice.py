"""A choice that a setting offers by name. Loads no torch, so that settings can be checked without it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Choice:
    """The meaning of one value of a setting.

    Attributes:
        module: the module that has it; it is loaded when it is used, as it needs torch.
        name: its name there.
        settings: other settings that it takes and some of its alternatives do not.
    """

    module: str
    name: str
    settings: Collection[str] = ()

    def load(self) -> Any:
        """The class or function."""
        return getattr(import_module(self.module), self.name)


def names_with(choices: Mapping[Any, Choice], setting: str) -> list[str]:
    """The names of the choices that take another setting."""
    return [name for name, choice in choices.items() if setting in choice.settings]
