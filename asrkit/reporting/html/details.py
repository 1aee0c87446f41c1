"""What the page shows of an utterance when it is opened: times of its phones, confidences, posteriors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrkit.formats.ctm import PhoneTimes, TimeColumns
from asrkit.io.ark import ArkReader
from asrkit.reporting.html.symbols import FIRST, Symbols
from asrkit.scoring.boundaries import BoundaryTally
from asrkit.scoring.protocols import Protocol

LEAST_POSTERIOR = 0.03  # below that a posterior is not drawn
LEVELS = 63  # posteriors are whole numbers up to this one


@dataclass(frozen=True)
class Sources:
    """What there is besides transcripts; None for what is not there.

    Attributes:
        ref_times, hyp_times: phones.ctm of the data directory and of the decoding.
        log_probs: (T, V) by utterance, the blank first.
        num_classes: V, where log_probs has more columns; 0 where it has not.
    """

    ref_times: PhoneTimes | None = None
    hyp_times: PhoneTimes | None = None
    log_probs: ArkReader | None = None
    num_classes: int = 0


class Details:
    """Gives the details of utterances, as values of JSON."""

    def __init__(self, sources: Sources, protocol: Protocol, symbols: Symbols) -> None:
        self._sources, self._protocol, self._symbols = sources, protocol, symbols
        self._folded: dict[str, str | None] = {}
        self._boundaries = BoundaryTally()

    def of(self, alignments: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """The details of each of these utterances, whose alignments are strings of the page's symbols.

        "ref" and "hyp" are starts and ends, in milliseconds, of the phones that are scored; they are left out where the
        phones with times are others. "conf" are percents, "post" what `posteriors` gives.
        """
        refs, hyps = (
            times.columns(alignments) if times is not None else iter([None] * len(alignments))
            for times in (self._sources.ref_times, self._sources.hyp_times)
        )
        for (utt, (ref, hyp)), ref_times, hyp_times in zip(alignments.items(), refs, hyps, strict=True):
            row: dict[str, Any] = {}
            if ref_times is not None and hyp_times is not None:
                self._boundaries.add(ref_times.phone_times(), hyp_times.phone_times())
            for name, side, times in (("ref", ref, ref_times), ("hyp", hyp, hyp_times)):
                if times is None or (spans := self._spans(side.replace(" ", ""), times)) is None:
                    continue
                row[name] = [
                    round(1000 * value) for index in spans for value in (times.starts[index], times.ends[index])
                ]
                if times.confidences:
                    row["conf"] = [round(100 * times.confidences[index]) for index in spans]
            if self._sources.log_probs is not None and utt in self._sources.log_probs:
                row["steps"], *row["post"] = posteriors(
                    self._sources.log_probs[utt][:, : self._sources.num_classes or None]
                )
            yield row

    def boundaries(self) -> dict[str, Any] | None:
        """How far the times of what was found are from the true ones, so far; None where one of them is not there."""
        if self._sources.ref_times is None or self._sources.hyp_times is None:
            return None
        result = self._boundaries.result()
        return {"line": result.line(), **result.to_dict()}

    def _spans(self, scored: str, times: TimeColumns) -> Sequence[int] | None:
        """For each phone that is scored the place of its times; None when these are the times of other phones."""
        if self._symbols.string(times.phones) == scored:
            return range(len(scored))
        places: list[int] = []
        for place, phone in enumerate(times.phones):
            if len(places) < len(scored) and self._fold(phone) == scored[len(places)]:
                places.append(place)
        return places if len(places) == len(scored) else None

    def _fold(self, phone: str) -> str | None:
        """The character of a phone as it is scored; None when it is left out, or the protocol does not know it."""
        if phone not in self._folded:
            phone_map = self._protocol.phone_map
            known = phone_map is None or not phone_map.unknown([phone])
            folded = self._protocol.prepare([phone]) if known else ()
            self._folded[phone] = self._symbols.char(folded[0]) if folded else None
        return self._folded[phone]


def posteriors(log_probs: np.ndarray) -> tuple[int, str, str, str]:
    """Posteriors (T, V) of a network: the number of steps, and what is not blank and above LEAST_POSTERIOR.

    Three strings: for each step how many tokens, and for each of these its number and its posterior, in LEVELS. Each
    is a character, FIRST being 0.
    """
    steps, tokens = np.nonzero(log_probs[:, 1:] > np.log(LEAST_POSTERIOR))
    tokens += 1
    values = np.rint(LEVELS * np.exp(np.minimum(log_probs[steps, tokens], 0.0)))
    numbers = np.bincount(steps, minlength=len(log_probs))
    return len(log_probs), _characters(numbers), _characters(tokens), _characters(values)


def _characters(numbers: np.ndarray) -> str:
    return (np.minimum(numbers, 0xD7FF - FIRST) + FIRST).astype("<u2").tobytes().decode("utf-16-le")
