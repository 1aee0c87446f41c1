"""The details of an utterance, which the page shows on demand: phone times, confidences and posteriors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise
from typing import Any

import numpy as np

from asrkit.decoding.attention_search import DecoderSearch
from asrkit.formats.ctm import PhoneTimes, TimeColumns
from asrkit.io.ark import ArkReader
from asrkit.io.scp import split_fields
from asrkit.io.tables import LazyTable
from asrkit.lang.tokens import TokenTable
from asrkit.reporting.html.symbols import FIRST, GAP, Symbols
from asrkit.scoring.boundaries import BoundaryTally
from asrkit.scoring.protocols import Protocol

LEAST = 0.03  # smaller posteriors and attention weights are not drawn
LEVELS = 63  # the others are stored as whole numbers from 0 to this one
_LARGEST = 0xD7FF - FIRST  # the largest number that fits into one character
_NO_CONFIDENCE = 2.0  # stands for a missing confidence; real ones are between 0 and 1


@dataclass(frozen=True)
class Sources:
    """Data for the page besides transcripts. None stands for missing data.

    Attributes:
        ref_times: phones.ctm of the data directory.
        hyp_times: phones.ctm of the decoding.
        log_probs: utterance id -> (T, V) log-probabilities, the blank in column 0.
        num_classes: V, if log_probs has more columns than that; otherwise 0.
        attention: of a model with an attention decoder.
    """

    ref_times: PhoneTimes | None = None
    hyp_times: PhoneTimes | None = None
    log_probs: ArkReader | None = None
    num_classes: int = 0
    attention: StoredAttention | None = None


class StoredAttention:
    """The attention of a decoder to the utterances of a decoded set."""

    def __init__(self, search: DecoderSearch, tokens: TokenTable, stored: ArkReader, hyps: LazyTable) -> None:
        """`stored`: the outputs (T, C) of the model that `asrkit decode` keeps. `hyps`: the phones that it found."""
        self._search, self._tokens, self._stored, self._hyps = search, tokens, stored, hyps

    def of(self, utts: Sequence[str]) -> Iterator[tuple[Sequence[str], np.ndarray | None]]:
        """Yield the phones found in each utterance and the attention weights (U + 1, T); the last row is the end's.

        The weights are means over heads. They are None if the outputs of the utterance are not stored, or if it has
        phones that the model does not know.
        """
        hyps = [split_fields(self._hyps[utt]) for utt in utts]
        is_known = [
            utt in self._stored and all(phone in self._tokens for phone in hyp)
            for utt, hyp in zip(utts, hyps, strict=True)
        ]
        stored = [self._stored[utt] for utt in compress(utts, is_known)]
        labelings = [self._tokens.encode(hyp) for hyp in compress(hyps, is_known)]
        weights = iter(self._search.attention(stored, labelings))
        for hyp, known in zip(hyps, is_known, strict=True):
            yield hyp, next(weights).mean(axis=0) if known else None


class Details:
    """Makes the details of utterances, as JSON values."""

    def __init__(self, sources: Sources, protocol: Protocol, symbols: Symbols) -> None:
        self._sources, self._protocol, self._symbols = sources, protocol, symbols
        self._folded: dict[str, str | None] = {}
        self._boundaries = BoundaryTally()

    def of(self, alignments: Mapping[str, tuple[str, str]]) -> Iterator[dict[str, Any]]:
        """Yield the details of each utterance. `alignments`: utterance id -> (reference, hypothesis) as strings of
        Symbols.

        "ref" and "hyp" hold two numbers for each scored phone, in milliseconds: the difference between its start and
        the previous start, and its duration. They are missing if the phones with times are not the scored phones.
        "conf" holds confidences in percent, and "post" the result of `posteriors`. "look" holds the phones found and
        the result of `packed_attention`. A number n is stored as the character FIRST + n. If a number is too large for
        that, a list of numbers is stored instead.
        """
        utts = list(alignments)
        refs, hyps = (
            times.columns(utts) if times is not None else None
            for times in (self._sources.ref_times, self._sources.hyp_times)
        )
        if refs is not None and hyps is not None:
            self._boundaries.add(refs, hyps)
        rows: list[dict[str, Any]] = [{} for _ in utts]
        for name, times, scored in (
            ("ref", refs, [ref.replace(GAP, "") for ref, _ in alignments.values()]),
            ("hyp", hyps, [hyp.replace(GAP, "") for _, hyp in alignments.values()]),
        ):
            if times is not None:
                self._add_times(rows, name, times, scored)
        if self._sources.attention is not None:
            for row, (phones, weights) in zip(rows, self._sources.attention.of(utts), strict=True):
                if weights is not None:
                    row["steps"] = weights.shape[1]
                    row["look"] = [self._symbols.string(phones), *packed_attention(weights)]
        for utt, row in zip(utts, rows, strict=True):
            if self._sources.log_probs is not None and utt in self._sources.log_probs:
                row["steps"], *row["post"] = posteriors(
                    self._sources.log_probs[utt][:, : self._sources.num_classes or None]
                )
            yield row

    def _add_times(self, rows: Sequence[dict[str, Any]], name: str, times: TimeColumns, scored: Sequence[str]) -> None:
        """Store the times of the scored phones under `name`. `scored`: the phones of each utterance as a string."""
        chars = self._symbols.string(times.phones)
        starts, ends = (np.rint(1000 * seconds).astype(np.int64) for seconds in (times.starts, times.ends))
        steps = np.diff(starts, prepend=0)
        firsts = [first for first, end in pairwise(times.bounds) if end > first]
        steps[firsts] = starts[firsts]
        spans = _packed(np.stack([steps, ends - starts], axis=1).ravel())
        percents = _characters(np.rint(100 * np.nan_to_num(times.confidences, nan=_NO_CONFIDENCE)).astype(np.int64))
        for row, of_utt, (first, end) in zip(rows, scored, pairwise(times.bounds), strict=True):
            if chars[first:end] == of_utt:
                row[name], conf = spans[2 * first : 2 * end], percents[first:end]
            elif (places := self._places(of_utt, times.phones[first:end])) is not None:
                taken = [first + place for place in places]
                steps = np.diff(starts[taken], prepend=0)
                row[name] = _packed(np.stack([steps, (ends - starts)[taken]], axis=1).ravel())
                conf = "".join([percents[place] for place in taken])
            else:
                continue
            if name == "hyp" and conf and chr(FIRST + round(100 * _NO_CONFIDENCE)) not in conf:
                row["conf"] = conf

    def boundaries(self) -> dict[str, Any] | None:
        """How far the phone times so far are from the true ones. None if one of the two is missing."""
        if self._sources.ref_times is None or self._sources.hyp_times is None:
            return None
        result = self._boundaries.result()
        return {"line": result.line(), **result.to_dict()}

    def _places(self, scored: str, phones: Sequence[str]) -> Sequence[int] | None:
        """The position of each scored phone among `phones`. None if these are other phones."""
        places: list[int] = []
        for place, phone in enumerate(phones):
            if len(places) < len(scored) and self._fold(phone) == scored[len(places)]:
                places.append(place)
        return places if len(places) == len(scored) else None

    def _fold(self, phone: str) -> str | None:
        """The character of a phone as it is scored. None if it is left out, or if the protocol does not know it."""
        if phone not in self._folded:
            phone_map = self._protocol.phone_map
            known = phone_map is None or not phone_map.unknown([phone])
            folded = self._protocol.prepare([phone]) if known else ()
            self._folded[phone] = self._symbols.char(folded[0]) if folded else None
        return self._folded[phone]


def posteriors(log_probs: np.ndarray) -> tuple[int, str, str, str]:
    """Pack the posteriors of a network: only classes other than the blank, and only values above LEAST.

    Args:
        log_probs: (T, V) log-probabilities, the blank in column 0.

    Returns:
        The number of steps, and three strings: the number of tokens of each step, the tokens, and their posteriors
        times LEVELS. A number n is stored as the character FIRST + n.
    """
    steps, tokens = np.nonzero(log_probs[:, 1:] > np.log(LEAST))
    tokens += 1
    values = np.rint(LEVELS * np.exp(np.minimum(log_probs[steps, tokens], 0.0)))
    numbers = np.bincount(steps, minlength=len(log_probs))
    return len(log_probs), _characters(numbers), _characters(tokens), _characters(values)


def packed_attention(weights: np.ndarray) -> tuple[str, str, str]:
    """Pack attention weights (U + 1, T), only those above LEAST, for the phones and the end.

    Returns:
        Three strings like those of `posteriors`: the number of steps of each phone, the steps, and their weights.
    """
    phones, steps = np.nonzero(weights > LEAST)
    numbers = np.bincount(phones, minlength=len(weights))
    return _characters(numbers), _characters(steps), _characters(np.rint(LEVELS * weights[phones, steps]))


def _packed(numbers: np.ndarray) -> str | list[int]:
    return _characters(numbers) if numbers.max(initial=0) <= _LARGEST else numbers.tolist()


def _characters(numbers: np.ndarray) -> str:
    return (np.minimum(numbers, _LARGEST) + FIRST).astype("<u2").tobytes().decode("utf-16-le")
