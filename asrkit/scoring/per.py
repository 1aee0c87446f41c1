"""Phone error rate (PER): substitutions, deletions and insertions, divided by reference tokens.

A protocol prepares the transcripts before this module counts (asrkit/scoring/protocols.py).
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
    """Reference tokens and errors of a set of utterances.

    Attributes:
        num_ref: reference tokens.
        num_ins, num_del, num_sub: insertions, deletions and substitutions.
        num_free_ins, num_free_del: insertions and deletions of optional phones. They are not errors.
    """

    num_ref: int = 0
    num_ins: int = 0
    num_del: int = 0
    num_sub: int = 0
    num_free_ins: int = 0
    num_free_del: int = 0

    @property
    def num_errors(self) -> int:
        """Insertions, deletions and substitutions together."""
        return self.num_ins + self.num_del + self.num_sub

    @property
    def num_hits(self) -> int:
        """Reference tokens that were recognised correctly."""
        return self.num_ref - self.num_del - self.num_sub - self.num_free_del

    @property
    def num_hyp(self) -> int:
        """Tokens of the hypotheses."""
        return self.num_hits + self.num_sub + self.num_ins + self.num_free_ins

    @property
    def per(self) -> float:
        """PER in percent; NaN when there are no reference tokens."""
        return 100.0 * self.num_errors / self.num_ref if self.num_ref else math.nan

    def line(self) -> str:
        """`%PER 9.31 [ 123 / 1321, 20 ins, 60 del, 43 sub ]`, in the format of Kaldi's compute-wer."""
        return (
            f"%PER {self.per:.2f} [ {self.num_errors} / {self.num_ref}, "
            f"{self.num_ins} ins, {self.num_del} del, {self.num_sub} sub ]"
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """The counts and the PER for JSON. JSON has no NaN, so a missing PER is None."""
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
    """The counts of a whole set, and the alignment of each utterance.

    Attributes:
        pairs: utterance id -> (reference, hypothesis) phones, in the order of the references. None stands for the
            missing side of an insertion or a deletion.
        optional: phones that are inserted and deleted at no cost.
    """

    pairs: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()

    @cached_property
    def per_utt(self) -> dict[str, Counts]:
        """Utterance id -> its counts, in the order of the references."""
        return {utt: count_pairs(pairs, self.optional) for utt, pairs in self.pairs.items()}

    @cached_property
    def pair_counts(self) -> Counter[Pair]:
        """How often each (reference, hypothesis) pair occurs, hits included."""
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
    """Count aligned (reference, hypothesis) pairs. Insertions and deletions of `optional` phones are free."""
    return kind_counts(Counter(pair_kind(pair, optional) for pair in pairs))


def kind_counts(kinds: Mapping[str, int]) -> Counts:
    """Counts from the number of pairs of each kind, as `pair_kind` names the kinds."""
    num_ref = sum(kinds.get(kind, 0) for kind in ("hit", "sub", "del", "free_del"))
    return Counts(num_ref, *(kinds.get(kind, 0) for kind in ("ins", "del", "sub", "free_ins", "free_del")))


def pool(counts: Iterable[Counts]) -> Counts:
    """Sum the counts of sets that share no utterance."""
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
    """Score hypotheses against references (utterance id -> phones). Symbols are compared exactly as they are.

    The number of errors is the smallest possible one. Several alignments can reach it; jiwer chooses one of them. So
    the split into substitutions, deletions and insertions can differ from Kaldi's.

    `optional` phones are inserted and deleted at no cost. They count among the reference tokens. jiwer does not know
    such costs, so asrkit.scoring.align aligns in this case.

    Raises:
        DataError: an utterance lacks its hypothesis or its reference; one line for each. The message calls the two
            sides `hyp_name` and `ref_name`, which are usually file names.
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
    import jiwer  # slow to import, and recognition imports this module without scoring

    # jiwer strips and splits strings. One character for each symbol passes through it unchanged.
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
    """Give each symbol one character, from a plane of Unicode that holds no white space."""
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
