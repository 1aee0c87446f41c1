"""Phone error rate: substitutions, deletions and insertions over reference tokens.

What is counted before this, and how, is the protocol's matter (asrkit/scoring/protocols.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from asrkit.errors import raise_if_any
from asrkit.scoring.align import Pair, align

if TYPE_CHECKING:
    import jiwer


@dataclass(frozen=True)
class Counts:
    """Numbers of reference tokens and of errors over some set of utterances.

    `num_free_ins`, `num_free_del`: insertions and deletions of optional phones, which are no errors.
    """

    num_ref: int = 0
    num_ins: int = 0
    num_del: int = 0
    num_sub: int = 0
    num_free_ins: int = 0
    num_free_del: int = 0

    @property
    def num_errors(self) -> int:
        return self.num_ins + self.num_del + self.num_sub

    @property
    def num_hits(self) -> int:
        return self.num_ref - self.num_del - self.num_sub - self.num_free_del

    @property
    def num_hyp(self) -> int:
        return self.num_hits + self.num_sub + self.num_ins + self.num_free_ins

    @property
    def per(self) -> float:
        """Errors per 100 reference tokens; NaN when there are no reference tokens."""
        return 100.0 * self.num_errors / self.num_ref if self.num_ref else math.nan

    def line(self) -> str:
        """`%PER 9.31 [ 123 / 1321, 20 ins, 60 del, 43 sub ]`, as Kaldi's compute-wer writes it."""
        return (
            f"%PER {self.per:.2f} [ {self.num_errors} / {self.num_ref}, "
            f"{self.num_ins} ins, {self.num_del} del, {self.num_sub} sub ]"
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """The counts and the rate for JSON (which has no NaN: null)."""
        return {
            "per": None if math.isnan(self.per) else self.per,
            "num_ref": self.num_ref,
            "num_hyp": self.num_hyp,
            "num_errors": self.num_errors,
            "num_hits": self.num_hits,
            "num_ins": self.num_ins,
            "num_del": self.num_del,
            "num_sub": self.num_sub,
            "num_free_ins": self.num_free_ins,
            "num_free_del": self.num_free_del,
        }


@dataclass(frozen=True)
class PerResult(Counts):
    """The counts of a whole set and the alignment of each utterance, in the order of the references.

    `pairs`: utt id -> (reference, hypothesis) phones, None for the side that an insertion or deletion lacks.
    `optional`: the phones whose insertion and deletion are free.
    """

    pairs: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    @cached_property
    def per_utt(self) -> dict[str, Counts]:
        return {utt: count_pairs(pairs, self.optional) for utt, pairs in self.pairs.items()}

    @cached_property
    def pair_counts(self) -> Counter[Pair]:
        """The number of occurrences of each pair, including hits."""
        return Counter(pair for pairs in self.pairs.values() for pair in pairs)


def pair_kind(pair: Pair, optional: Container[str] = frozenset()) -> str:
    """The kind of an aligned pair: "hit", "ins", "del", "sub", "free_ins" or "free_del"."""
    ref, hyp = pair
    if ref is None:
        return "free_ins" if hyp in optional else "ins"
    if hyp is None:
        return "free_del" if ref in optional else "del"
    return "hit" if ref == hyp else "sub"


def count_pairs(pairs: Iterable[Pair], optional: Container[str] = frozenset()) -> Counts:
    """Counts of aligned (reference, hypothesis) pairs; insertions and deletions of `optional` phones are free."""
    return kind_counts(Counter(pair_kind(pair, optional) for pair in pairs))


def kind_counts(kinds: Mapping[str, int]) -> Counts:
    """Counts from how often each `pair_kind` occurs."""
    num_ref = sum(kinds.get(kind, 0) for kind in ("hit", "sub", "del", "free_del"))
    return Counts(num_ref, *(kinds.get(kind, 0) for kind in ("ins", "del", "sub", "free_ins", "free_del")))


def pool(counts: Iterable[Counts]) -> Counts:
    """The sum over disjoint sets of utterances."""
    rows = ((c.num_ref, c.num_ins, c.num_del, c.num_sub, c.num_free_ins, c.num_free_del) for c in counts)
    return Counts(*map(sum, zip(*rows, strict=True)))


def score(
    refs: Mapping[str, Sequence[str]],
    hyps: Mapping[str, Sequence[str]],
    *,
    ref_name: str = "references",
    hyp_name: str = "hypotheses",
    optional: frozenset[str] = frozenset(),
) -> PerResult:
    """Score `hyps` against `refs` (utt id -> phones); symbols are compared as they are.

    The number of errors is the least possible. Where several alignments reach it, how it splits into
    substitutions, deletions and insertions is jiwer's choice, which can differ from Kaldi's. `optional` phones are
    inserted and deleted at no cost; they count among the reference tokens. jiwer has no such costs, so then the
    alignment is our own.

    Raises:
        DataError: a line for each utterance without hypothesis or without reference; `ref_name` and `hyp_name`
            stand for their files.
    """
    raise_if_any(
        [f"{hyp_name}: utterance {utt} of {ref_name} is missing; decode it" for utt in refs if utt not in hyps]
        + [f"{ref_name}: utterance {utt} of {hyp_name} is missing" for utt in hyps if utt not in refs]
    )
    if optional:
        pairs = {utt: tuple(align(ref, hyps[utt], optional)) for utt, ref in refs.items()}
        counts = count_pairs((pair for aligned in pairs.values() for pair in aligned), optional)
        return PerResult(**vars(counts), pairs=pairs, optional=optional)
    if not refs:
        return PerResult()
    import jiwer  # here, because recognition needs this module but does not score

    # jiwer would strip and split sentences of symbols; as one character each they stay as they are.
    characters = _characters(refs.values(), hyps.values())
    output = jiwer.process_characters(
        ["".join(map(characters.__getitem__, ref)) for ref in refs.values()],
        ["".join(map(characters.__getitem__, hyps[utt])) for utt in refs],
        reference_transform=jiwer.ReduceToListOfListOfChars(),
        hypothesis_transform=jiwer.ReduceToListOfListOfChars(),
    )
    pairs = {
        utt: tuple(_pairs(ref, hyps[utt], chunks))
        for (utt, ref), chunks in zip(refs.items(), output.alignments, strict=True)
    }
    num_ref = output.hits + output.substitutions + output.deletions
    return PerResult(num_ref, output.insertions, output.deletions, output.substitutions, pairs=pairs)


def _characters(*sides: Iterable[Sequence[str]]) -> dict[str, str]:
    """A character for each symbol of the transcripts, from a plane of Unicode in which none is a blank."""
    symbols = dict.fromkeys(phone for side in sides for phones in side for phone in phones)
    return {symbol: chr(0x10000 + number) for number, symbol in enumerate(symbols)}


def _pairs(ref: Sequence[str], hyp: Sequence[str], chunks: Sequence[jiwer.AlignmentChunk]) -> Iterable[Pair]:
    for chunk in chunks:
        refs = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        hyps = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "insert":
            yield from ((None, phone) for phone in hyps)
        elif chunk.type == "delete":
            yield from ((phone, None) for phone in refs)
        else:
            yield from zip(refs, hyps, strict=True)
