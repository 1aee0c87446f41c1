"""Real headless Chromium for tests of pages: playwright from PyPI drives the chromium that the system has."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence

import pytest

PATIENCE = 300_000  # milliseconds after which a test that waits for a page fails; it is slow on a busy machine
NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def chromium(args: Sequence[str] = ()) -> Iterator:
    """A browser of playwright's, started with these arguments; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright; install the extra `browser`")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium; on Debian: apt install chromium")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*as_root, *args], timeout=PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """What went wrong on a page: messages in its console, exceptions, and requests that leave `site`."""

    def __init__(self, page, site: str) -> None:
        self.faults: list[str] = []
        page.on("console", lambda message: self._note(message.type in ("error", "warning"), message.text))
        page.on("pageerror", lambda error: self._note(True, str(error)))
        page.on("request", lambda request: self._note(not request.url.startswith((site, "blob:")), request.url))

    def _note(self, is_fault: bool, text: str) -> None:
        if is_fault:
            self.faults.append(text)
