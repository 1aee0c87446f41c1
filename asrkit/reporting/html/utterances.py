"""The utterances of a page: their transcripts and details in parts, and a random sample of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from asrkit.reporting.html.details import Details
from asrkit.reporting.html.page import Page
from asrkit.reporting.html.symbols import Symbols
from asrkit.scoring.align import Pair

UTTS_A_PART = 1000
DETAILS_A_PART = 100  # UTTS_A_PART is a multiple of it


class Utterances:
    """Writes the utterances of a set to a page, in the order in which they arrive. It also draws a sample (seed 0).

    Utterances are numbered in this order. The transcript of number n is in part t(n // UTTS_A_PART). Its details from
    system S (0 or 1) are in part dS_(n // DETAILS_A_PART).

    Attributes:
        num: utterances so far.
        sample: (number, utterance id) of the sampled utterances, whose audio the page contains.
    """

    def __init__(self, page: Page, details: Sequence[Details], symbols: Symbols, num_sample: int) -> None:
        """Begin without utterances. `details` has one entry per system: one, or two that are compared."""
        self._page, self._details, self._symbols = page, details, symbols
        self._random, self._num_sample = random.Random(0), num_sample
        self._rows: dict[str, str] = {}  # utterance -> speaker, of those that are not written yet
        self._alignments: list[dict[str, tuple[str, str]]] = [{} for _ in details]
        self.num = 0
        self.sample: list[tuple[int, str]] = []

    def add(self, pairs_of: Sequence[Mapping[str, Sequence[Pair]]], utt2spk: Mapping[str, str]) -> None:
        """Add utterances. `pairs_of`: for each system, utterance id -> alignment."""
        for utt in pairs_of[0]:
            self._draw(utt)
            self.num += 1
            self._rows[utt] = utt2spk[utt]
            for alignments, pairs in zip(self._alignments, pairs_of, strict=True):
                alignments[utt] = self._symbols.alignment(pairs[utt])
            if len(self._rows) == UTTS_A_PART:
                self.finish()

    def finish(self) -> None:
        """Write the utterances that are not written yet."""
        if not self._rows:
            return
        sides = [[[each[side] for each in alignments.values()] for alignments in self._alignments] for side in (0, 1)]
        part = {"utt": list(self._rows), "spk": list(self._rows.values()), "ref": sides[0], "hyp": sides[1]}
        number = (self.num - 1) // UTTS_A_PART
        self._page.add_part(f"t{number}", part)
        for system, (details, alignments) in enumerate(zip(self._details, self._alignments, strict=True)):
            for place, batch in enumerate(_batches(alignments)):
                name = f"d{system}_{number * (UTTS_A_PART // DETAILS_A_PART) + place}"
                self._page.add_part(name, list(details.of(batch)))
            alignments.clear()
        self._rows.clear()

    def _draw(self, utt: str) -> None:
        """Sample each utterance with the same probability (Vitter, algorithm R, 1985)."""
        if len(self.sample) < self._num_sample:
            self.sample.append((self.num, utt))
        elif (place := self._random.randrange(self.num + 1)) < self._num_sample:
            self.sample[place] = (self.num, utt)


def _batches(alignments: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, tuple[str, str]]]:
    rows = iter(alignments.items())
    while batch := dict(islice(rows, DETAILS_A_PART)):
        yield batch
