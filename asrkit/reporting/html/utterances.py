"""The utterances of a page: parts with transcripts, parts with details, and which of them are shown and heard."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from asrkit.reporting.html.details import Details
from asrkit.reporting.html.page import Page
from asrkit.reporting.html.symbols import Symbols
from asrkit.scoring.align import Pair

UTTS_A_PART = 1000
DETAILS_A_PART = 100


class Utterances:
    """Writes the utterances of a set to a page as they come, and draws a sample of them (seed 0).

    An utterance has a number, in the order in which they come: number n is in the parts t(n // UTTS_A_PART), with
    transcripts, and d(n // DETAILS_A_PART), with details.
    """

    def __init__(self, page: Page, details: Details | None, symbols: Symbols, num_sample: int) -> None:
        self._page, self._details, self._symbols = page, details, symbols
        self._random, self._num_sample = random.Random(0), num_sample
        self._rows: list[dict[str, str]] = []
        self._alignments: dict[str, tuple[str, str]] = {}
        self.num = 0
        self.sample: list[tuple[int, str]] = []

    def add(self, pairs_of: Mapping[str, Iterable[Pair]], utt2spk: Mapping[str, str]) -> None:
        """Add utterances with their alignments."""
        for utt, pairs in pairs_of.items():
            self._draw(utt)
            self.num += 1
            ref, hyp = self._alignments[utt] = self._symbols.alignment(tuple(pairs))
            self._rows.append({"utt": utt, "spk": utt2spk[utt], "ref": ref, "hyp": hyp})
            if len(self._rows) == UTTS_A_PART:
                self._write_rows()
            if len(self._alignments) == DETAILS_A_PART:
                self._write_details()

    def finish(self) -> None:
        """Write what is left."""
        if self._rows:
            self._write_rows()
        if self._alignments:
            self._write_details()

    def _draw(self, utt: str) -> None:
        """Every utterance is in the sample with the same probability (Vitter's algorithm R, 1985)."""
        if len(self.sample) < self._num_sample:
            self.sample.append((self.num, utt))
        elif (place := self._random.randrange(self.num + 1)) < self._num_sample:
            self.sample[place] = (self.num, utt)

    def _write_rows(self) -> None:
        part = {name: [row[name] for row in self._rows] for name in ("utt", "spk", "ref", "hyp")}
        self._page.add_part(f"t{(self.num - 1) // UTTS_A_PART}", part)
        self._rows.clear()

    def _write_details(self) -> None:
        if self._details is not None:
            self._page.add_part(f"d{(self.num - 1) // DETAILS_A_PART}", list(self._details.of(self._alignments)))
        self._alignments.clear()
