"""The form of help texts: paragraphs are broken, lines of examples are not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

_TITLE = "examples:"


class HelpFormatter(argparse.HelpFormatter):
    """Breaks the lines of text, but for those of examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_TITLE) else super()._fill_text(text, width, indent)


def examples(lines: Sequence[str]) -> str:
    """The end of a help text: command lines, each on its own."""
    return "\n".join([_TITLE, *(f"  {line}" for line in lines)])
