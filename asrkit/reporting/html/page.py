"""The page: one HTML file with style, program, figures and parts. A part is a compressed text that is read on demand.

Python writes only values. The only program is `page.js`.
"""

from __future__ import annotations

import base64
import html
import zlib
from pathlib import Path
from typing import IO

from asrkit.io.atomic import atomic_write
from asrkit.io.json_text import json_text

_HERE = Path(__file__).parent
# The page fetches nothing. Its other files are scripts, because a page on a disk can load only scripts.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'self' file:; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data: blob:"
)


class Page:
    """Writes a page piece by piece, so that it can be larger than memory."""

    def __init__(self, stream: IO[str], title: str, beside: Path | None = None) -> None:
        """Begin the page.

        Args:
            stream: takes the page.
            title: of the page.
            beside: a directory for the parts; by default they are in the page.
        """
        self._stream, self._beside = stream, beside
        stream.write(
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            f"<title>{html.escape(title)}</title>\n<style>\n{_read('page.css')}</style>\n</head>\n<body>\n"
            f"{_read('page.html')}"
        )

    def add_part(self, name: str, value: object) -> None:
        """Add a JSON value, which the program reads by this name."""
        content = base64.b64encode(zlib.compress(json_text(value).encode())).decode()
        if self._beside is None:
            self._add_text(name, content)
        else:
            with atomic_write(self._beside / f"{name}.js") as stream:
                stream.write(f'asrkitPart("{name}","{content}")\n')

    def add_audio(self, name: str, content: bytes) -> None:
        """Add an Ogg Opus file, which the program reads by this name."""
        self._add_text(name, base64.b64encode(content).decode())

    def finish(self, figures: object) -> None:
        """Add the JSON value `figures`, which the page shows at once, and the program."""
        text = json_text(figures).replace("<", "\\u003c")  # "</script>" in a text would end the element
        self._stream.write(
            f'<script type="application/json" id="figures">{text}</script>\n'
            f"<script>\n{_read('page.js')}</script>\n</body>\n</html>\n"
        )

    def _add_text(self, name: str, content: str) -> None:
        self._stream.write(f'<script type="text/plain" id="{name}">{content}</script>\n')


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
