"""The form of help texts: lines of paragraphs are wrapped, lines of examples are not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

_TITLE = "examples:"


class HelpFormatter(argparse.HelpFormatter):
    """Wraps the lines of text, except those of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_TITLE) else super()._fill_text(text, width, indent)


def examples(lines: Sequence[str]) -> str:
    """The end of a help text: command lines, one per line."""
    return "\n".join([_TITLE, *(f"  {line}" for line in lines)])
