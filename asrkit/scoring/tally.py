"""Counts of a set that is scored piece by piece: of each utterance two numbers stay, of its alignment none."""

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

LENGTH_BOUNDS = (5, 10, 20, 40, 80, 160)  # reference tokens: where a group of lengths ends and the next one begins
NUM_WORST = 10  # utterances that every report has


@dataclass
class Group:
    """Utterances that belong together: how many, and how often each kind of pair (`pair_kind`) occurs in them."""

    num_utts: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, num_utts: int, kinds: Mapping[str, int]) -> None:
        self.num_utts += num_utts
        self.kinds.update(kinds)

    @property
    def counts(self) -> Counts:
        return kind_counts(self.kinds)

    @classmethod
    def of(cls, parts: Iterable[Group]) -> Group:
        """All that is in the parts."""
        whole = cls()
        for part in parts:
            whole.add(part.num_utts, part.kinds)
        return whole


@dataclass(frozen=True)
class Scored:
    """An utterance with its counts and its alignment."""

    utt: str
    spk: str
    counts: Counts
    pairs: tuple[Pair, ...]

    @property
    def badness(self) -> tuple[float, int, str]:
        """Sorts the worst first."""
        return (*badness(self.counts), self.utt)


def badness(counts: Counts) -> tuple[float, int]:
    """Sorts the worst first; without reference tokens there is no rate, and any error is worse than all rates."""
    rate = counts.per if counts.num_ref else math.inf if counts.num_errors else 0.0
    return -rate, -counts.num_errors


def length_name(number: int) -> str:
    """The name of a group of lengths: `20 to 39`."""
    bounds = (0, *LENGTH_BOUNDS)
    return (
        f"{bounds[number]} to {bounds[number + 1] - 1}" if number < len(LENGTH_BOUNDS) else f"{bounds[number]} or more"
    )


@dataclass
class Tally:
    """The counts over all added utterances; 16 bytes are kept per utterance.

    Attributes:
        num_worst: how many of the utterances with errors are kept in `worst`, the worst first.
        optional: the phones whose insertion and deletion are free, as the results have them.
        pair_counts: how often each (reference, hypothesis) pair occurs, hits included.
        speakers: the counts of each, in the order in which they come first.
        lengths: those of utterances of a length, by their group's number among LENGTH_BOUNDS.
        num_utts_correct: utterances without an error.
        num_silence_neighbours: silences of the references right after another.
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
        """Add the utterances of `result`, each of which has its speaker in `utt2spk`."""
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
        return len(self._refs)

    @property
    def total(self) -> Counts:
        return Group.of(self.lengths.values()).counts

    def intervals(self) -> dict[str, Interval]:
        """Intervals of the pooled rate over "utterances" and "speakers", as significance.intervals gives them."""
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
