"""Counts of a set that is scored piece by piece. Only two numbers are kept per utterance, and no alignment."""

from __future__ import annotations

import bisect
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from asrkit.scoring.align import Pair
from asrkit.scoring.per import Counts, PerResult, kind_counts, pair_kind
from asrkit.scoring.protocols import silences
from asrkit.scoring.significance import Interval, rate_interval

LENGTH_BOUNDS = (5, 10, 20, 40, 80, 160)  # reference tokens at which the next group of lengths begins
NUM_WORST = 10  # utterances that a report shows


@dataclass
class Group:
    """A group of utterances.

    Attributes:
        num_utts: the number of utterances.
        kinds: how often each kind of pair occurs in them, by the names of `pair_kind`.
    """

    num_utts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, num_utts: int, kinds: Mapping[str, int]) -> None:
        """Add utterances and their kinds of pairs."""
        self.num_utts += num_utts
        self.kinds.update(kinds)

    @property
    def counts(self) -> Counts:
        """The counts of all utterances of the group."""
        return kind_counts(self.kinds)

    @classmethod
    def of(cls, parts: Iterable[Group]) -> Group:
        """One group with the utterances of all `parts`."""
        whole = cls()
        for part in parts:
            whole.add(part.num_utts, part.kinds)
        return whole


@dataclass(frozen=True)
class Scored:
    """One utterance with its speaker, counts and alignment."""

    utt: str
    spk: str
    counts: Counts
    pairs: tuple[Pair, ...]

    @property
    def badness(self) -> tuple[float, int, str]:
        """Sort key that puts the worst utterance first."""
        return (*badness(self.counts), self.utt)


def badness(counts: Counts) -> tuple[float, int]:
    """Sort key that puts the highest PER first.

    An utterance without reference tokens has no PER. If it has errors, it counts as worse than any PER.
    """
    rate = counts.per if counts.num_ref else math.inf if counts.num_errors else 0.0
    return -rate, -counts.num_errors


def length_name(number: int) -> str:
    """The name of a group of lengths, for example `20 to 39`."""
    bounds = (0, *LENGTH_BOUNDS)
    return (
        f"{bounds[number]} to {bounds[number + 1] - 1}" if number < len(LENGTH_BOUNDS) else f"{bounds[number]} or more"
    )


@dataclass
class Tally:
    """The counts over all added utterances. It keeps 16 bytes per utterance.

    Attributes:
        num_worst: how many utterances `worst` keeps.
        optional: phones that are inserted and deleted at no cost.
        pair_counts: how often each (reference, hypothesis) pair occurs, hits included.
        speakers: speaker -> counts, in the order in which the speakers first occur.
        lengths: number of a group of lengths (see LENGTH_BOUNDS) -> counts.
        worst: the worst utterances that have errors, the worst first.
        num_utts_correct: utterances without an error.
        num_silence_neighbours: silences of the references that directly follow another silence.
    """

    num_worst: int = NUM_WORST
    optional: frozenset[str] = frozenset()
    pair_counts: Counter[Pair] = field(default_factory=Counter)
    speakers: defaultdict[str, Group] = field(default_factory=lambda: defaultdict(Group))
    lengths: defaultdict[int, Group] = field(default_factory=lambda: defaultdict(Group))
    worst: list[Scored] = field(default_factory=list)
    num_utts_correct: int = 0
    num_silence_neighbours: int = 0
    _errors: array[int] = field(default_factory=lambda: array("q"))
    _refs: array[int] = field(default_factory=lambda: array("q"))

    @classmethod
    def of(cls, result: PerResult, utt2spk: Mapping[str, str]) -> Tally:
        """The counts of a whole set."""
        tally = cls()
        tally.add(result, utt2spk)
        return tally

    def add(self, result: PerResult, utt2spk: Mapping[str, str]) -> None:
        """Add the utterances of `result`. `utt2spk` gives the speaker of each of them."""
        self.optional = result.optional
        self.pair_counts.update(result.pair_counts)
        silent = silences({symbol for pair in result.pair_counts for symbol in pair if symbol is not None})
        for utt, pairs in result.pairs.items():
            kinds = Counter(pair_kind(pair, self.optional) for pair in pairs if pair[0] != pair[1])
            kinds["hit"] = len(pairs) - kinds.total()
            counts = kind_counts(kinds)
            self._errors.append(counts.num_errors)
            self._refs.append(counts.num_ref)
            self.speakers[utt2spk[utt]].add(1, kinds)
            self.lengths[bisect.bisect(LENGTH_BOUNDS, counts.num_ref)].add(1, kinds)
            if counts.num_errors:
                self._keep_if_worst(Scored(utt, utt2spk[utt], counts, pairs))
            else:
                self.num_utts_correct += 1
            if silent:
                are_silent = [ref in silent for ref, _ in pairs if ref is not None]
                self.num_silence_neighbours += sum(a and b for a, b in pairwise(are_silent))

    @property
    def num_utts(self) -> int:
        """The number of utterances."""
        return len(self._refs)

    @property
    def total(self) -> Counts:
        """The counts over all utterances."""
        return Group.of(self.lengths.values()).counts

    def intervals(self) -> dict[str, Interval]:
        """Intervals of the pooled PER over "utterances" and "speakers", as `significance.intervals` gives them."""
        counts = [group.counts for group in self.speakers.values()]
        return {
            "utterances": rate_interval(np.asarray(self._errors), np.asarray(self._refs)),
            "speakers": rate_interval([c.num_errors for c in counts], [c.num_ref for c in counts]),
        }

    def _keep_if_worst(self, scored: Scored) -> None:
        worst = self.worst
        if len(worst) < self.num_worst or scored.badness < worst[-1].badness:
            bisect.insort(worst, scored, key=lambda each: each.badness)
            del worst[self.num_worst :]
