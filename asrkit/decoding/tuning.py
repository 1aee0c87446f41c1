"""The search for decoding settings: language model weight, insertion bonus and beam with the fewest errors on dev."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from asrkit.decoding.confidence import phone_evidence, right_phones
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.methods import SearchModels
from asrkit.decoding.search_errors import Labeling, ScorePair, compare_scores
from asrkit.lang.tokens import TokenTable
from asrkit.lm.automaton import LmAutomaton
from asrkit.parallel import track
from asrkit.scoring.per import Counts, pool, score
from asrkit.scoring.protocols import Protocol

# Weights and bonuses are whole multiples of these units, so that equal settings compare equal.
WEIGHT_UNIT, BONUS_UNIT = 0.1, 0.25
COARSE = 2  # units from one point of the coarse grid to the next
WEIGHTS, BONUSES = range(0, 21, COARSE), range(-4, 13, COARSE)  # 0 to 2, -1 to 3 nats
GRID_BEAM = 16
BEAMS = (16, 32, 64, 128, 256, 512, 1024)
MAX_PENALTY = 12  # units of BONUS_UNIT: 3 nats
MAX_BEAM = 4096  # what wider beams are tried at most, for the sake of time
MAX_DECODER_BEAM = 64  # the same of attention decoders
MAX_SEARCH_ERRORS = 0.01  # share of the wrong utterances
MAX_IMPROVED = 0.005  # share of the phones
MAX_FOLDS = 20  # parts of a set that are left out in turn


@dataclass(frozen=True)
class Point:
    """What one setting gives: `counts` of each utterance, in the set's order."""

    config: DecodingConfig
    counts: tuple[Counts, ...]

    @cached_property
    def total(self) -> Counts:
        return pool(self.counts)


@dataclass(frozen=True)
class Gain:
    """What another search finds in place of some hypotheses."""

    num_changed: int  # utterances with another labelling
    num_improved: int  # of them, those whose total score gets higher
    num_edits: int  # insertions, deletions and substitutions of phones that lead to those
    num_phones: int  # of the other search's labellings


@dataclass(frozen=True)
class BeamTrial:
    """A beam beside a much wider one and beside the references, by total score."""

    point: Point
    wider: int
    gain: Gain  # of the wider beam
    num_below_reference: int
    num_wrong: int  # utterances with an error, of which num_below_reference are search errors

    @property
    def is_wide_enough(self) -> bool:
        return self.num_below_reference < max(MAX_SEARCH_ERRORS * self.num_wrong, 1e-9) and self.gain.num_edits < max(
            MAX_IMPROVED * self.gain.num_phones, 1e-9
        )


@dataclass(frozen=True)
class TunedSearch:
    """What tuning tried and chose: `points` of weight and bonus, `trials` of the beam, the best `greedy` search."""

    points: Sequence[Point]
    trials: Sequence[BeamTrial]
    greedy: Point

    @property
    def winner(self) -> Point:
        return self.trials[-1].point

    @property
    def config(self) -> DecodingConfig:
        """The settings chosen, the greedy search's among them."""
        return replace(self.winner.config, blank_penalty=self.greedy.config.blank_penalty)


@dataclass(frozen=True)
class Fold:
    """Utterances that were left out, by their places in the set, and the settings that are best on the others."""

    members: tuple[int, ...]
    config: DecodingConfig
    greedy: DecodingConfig


@dataclass(frozen=True)
class LeftOut:
    """The choice of settings made again without some of the speakers, or utterances, and so for all in turn."""

    unit: Literal["speakers", "utterances"]
    num_units: int
    folds: Sequence[Fold]


class StoredSet:
    """Utterances with log-probabilities (T, V) in memory and references, on which settings are tried."""

    def __init__(
        self,
        log_probs: Mapping[str, np.ndarray],
        refs: Mapping[str, Sequence[str]],
        tokens: TokenTable,
        models: SearchModels,
        protocol: Protocol,
        num_threads: int,
    ):
        """`log_probs` and `refs` hold the same utterances; `refs` gives their order."""
        self.refs = {utt_id: tuple(ref) for utt_id, ref in refs.items()}
        self.log_probs = [log_probs[utt_id] for utt_id in refs]
        self.tokens, self.models, self.protocol, self.num_threads = tokens, models, protocol, num_threads
        # References as labellings; None where a phone is not among the tokens.
        self.ref_labelings = [
            tuple(tokens.encode(ref)) if all(phone in tokens for phone in ref) else None for ref in self.refs.values()
        ]
        self._counts: dict[tuple[str, Labeling], Counts] = {}
        self._searched: dict[DecodingConfig, dict[int, Labeling]] = {}  # by place in the set
        self._labelings: dict[Labeling, Labeling] = {}  # equal ones are kept once

    @property
    def lm(self) -> LmAutomaton | None:
        return self.models.lm

    @property
    def widest_beam(self) -> int:
        """The widest beam that is tried, for the sake of time."""
        return MAX_BEAM if self.models.decoder is None else MAX_DECODER_BEAM

    def search(self, config: DecodingConfig) -> list[Labeling]:
        """The best labelling of each utterance."""
        return self.search_some(config, range(len(self.log_probs)))

    def search_some(self, config: DecodingConfig, members: Sequence[int]) -> list[Labeling]:
        """The best labelling of the utterances at these places.

        An utterance is searched once with the same settings, however often it is asked for.
        """
        found = self._searched.setdefault(config, {})
        if new := [index for index in members if index not in found]:
            results = self.models.search(config).decode_all([self.log_probs[i] for i in new], self.num_threads)
            for index, (best, *_) in zip(new, results, strict=True):
                found[index] = self._labelings.setdefault(best.tokens, best.tokens)
        return [found[index] for index in members]

    def count(self, hyps: Sequence[Labeling]) -> tuple[Counts, ...]:
        """Errors of each utterance. Each labelling is scored once, however often it is found."""
        new = {utt_id: hyp for utt_id, hyp in zip(self.refs, hyps, strict=True) if (utt_id, hyp) not in self._counts}
        if new:
            result = self.protocol.score_part(
                {utt_id: self.refs[utt_id] for utt_id in new},
                {utt_id: self.tokens.decode(hyp) for utt_id, hyp in new.items()},
            )
            self._counts |= {(utt_id, new[utt_id]): counts for utt_id, counts in result.per_utt.items()}
        return tuple(self._counts[utt_id, hyp] for utt_id, hyp in zip(self.refs, hyps, strict=True))

    def point(self, config: DecodingConfig) -> Point:
        return Point(config, self.count(self.search(config)))

    def part(self, members: Sequence[int]) -> StoredSet:
        """The utterances at these places, as a set. What is searched and counted in it is kept by the whole."""
        return _Part(self, members)

    def compare_with_references(self, point: Point, hyps: Sequence[Labeling]) -> list[ScorePair]:
        """Of each utterance with an error: the exact scores of its hypothesis, of `point`, and of its reference."""
        pairs = compare_scores(self.log_probs, hyps, self.ref_labelings, self.models.search(point.config))
        return [pair for pair in pairs if point.counts[pair.index].num_errors]

    def gain(self, config: DecodingConfig, hyps: Sequence[Labeling], others: Sequence[Labeling]) -> Gain:
        """What a search that found `others` adds to one that found `hyps`, scored as in `config`."""
        pairs = compare_scores(self.log_probs, hyps, others, self.models.search(config))
        better = {str(pair.index): pair.index for pair in pairs if pair.second_is_better}
        phones = [
            {name: self.tokens.decode(labelings[index]) for name, index in better.items()}
            for labelings in (others, hyps)
        ]
        num_edits = score(*phones).num_errors if better else 0
        return Gain(len(pairs), len(better), num_edits, sum(map(len, others)))

    def evidence(self, config: DecodingConfig, hyps: Sequence[Labeling]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For each utterance of U phones: (U, 2) what their confidences are made from, and right_phones (U,)."""
        search = self.models.search(config)
        emissions = (search.emissions(*pair) for pair in zip(self.log_probs, hyps, strict=True))
        evidence = [
            phone_evidence(log_probs, forced_align(log_probs, hyp), search.scorer)
            for log_probs, hyp in zip(emissions, hyps, strict=True)
        ]
        phones = {utt_id: self.tokens.decode(hyp) for utt_id, hyp in zip(self.refs, hyps, strict=True)}
        return evidence, [*right_phones(self.refs, phones, self.protocol).values()]


class _Part(StoredSet):
    def __init__(self, whole: StoredSet, members: Sequence[int]):
        utt_ids = list(whole.refs)
        log_probs = {utt_ids[index]: whole.log_probs[index] for index in members}
        refs = {utt_id: whole.refs[utt_id] for utt_id in log_probs}
        super().__init__(log_probs, refs, whole.tokens, whole.models, whole.protocol, whole.num_threads)
        self._whole, self._members, self._counts = whole, members, whole._counts

    def search_some(self, config: DecodingConfig, members: Sequence[int]) -> list[Labeling]:
        return self._whole.search_some(config, [self._members[index] for index in members])


def tune_search(dev: StoredSet, start: DecodingConfig) -> TunedSearch:
    """Search for weight and bonus, then for the beam, and for greedy search's blank penalty; progress goes to stderr.

    `start` gives what is not searched for.
    """
    points = list(track(search_settings(dev, start), "tuning weight and bonus"))
    trials = list(track(search_beam(dev, best_point(points).config), "tuning beam"))
    return TunedSearch(points, trials, search_blank_penalty(dev))


def leave_out(dev: StoredSet, start: DecodingConfig, beam: int, speakers: Sequence[str]) -> LeftOut | None:
    """Choose settings again without each speaker in turn, or without each of MAX_FOLDS groups of speakers.

    With one speaker, utterances are left out. None for one utterance. The whole search for weight, bonus and blank
    penalty is done anew. What was searched on `dev` is not searched again, only what another part of it leads to.
    Progress goes to stderr.

    Args:
        dev: the whole set.
        start: as for tune_search.
        beam: what was chosen on the whole set. That choice is not made again: it does not go by errors of
            recognition, so it favors nobody, and with other settings it would cost many searches with wide beams.
        speakers: of each utterance.
    """
    has_speakers = len(set(speakers)) > 1
    units = list(speakers) if has_speakers else list(dev.refs)
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    num_folds = min(len(numbers), MAX_FOLDS)
    if num_folds < 2:
        return None
    fold_of = [numbers[unit] % num_folds for unit in units]

    def leave(fold: int) -> Fold:
        others = dev.part([index for index, number in enumerate(fold_of) if number != fold])
        best = best_point(search_settings(others, start))
        members = tuple(index for index, number in enumerate(fold_of) if number == fold)
        return Fold(members, replace(best.config, beam=beam), search_blank_penalty(others).config)

    unit: Literal["speakers", "utterances"] = "speakers" if has_speakers else "utterances"
    folds = list(track(map(leave, range(num_folds)), f"tuning without some {unit}", num_folds))
    return LeftOut(unit, len(numbers), folds)


def count_left_out(
    dev: StoredSet, left_out: LeftOut, config_of: Callable[[Fold], DecodingConfig] = lambda fold: fold.config
) -> tuple[Counts, ...]:
    """Each utterance's counts with the settings that were chosen without it.

    This is free of the favor that comes from choosing and counting on the same utterances.
    """
    found: dict[int, Counts] = {}
    for fold in left_out.folds:
        found |= zip(fold.members, dev.part(fold.members).point(config_of(fold)).counts, strict=True)
    return tuple(found[index] for index in range(len(found)))


def search_settings(dev: StoredSet, start: DecodingConfig) -> Iterator[Point]:
    """Try settings, from a coarse grid to finer and finer steps round the best one, and yield each as it is done.

    What is best is `best_point`'s matter. `start` gives what is not searched for. Without a language model the weight
    stays 0.
    """
    tried: dict[tuple[int, int], Point] = {}

    def try_all(places: Sequence[tuple[int, int]]) -> Iterator[Point]:
        for place in places:
            if place not in tried and place[0] >= 0 and (dev.lm is not None or place[0] == 0):
                tried[place] = dev.point(
                    replace(
                        start,
                        method="beam",
                        beam=GRID_BEAM,
                        lm_weight=round(place[0] * WEIGHT_UNIT, 6),
                        insertion_bonus=place[1] * BONUS_UNIT,
                    )
                )
                yield tried[place]

    yield from try_all([(weight, bonus) for weight in WEIGHTS for bonus in BONUSES])
    step = COARSE
    while step:
        best = best_point(tried.values())
        weight, bonus = next(place for place, point in tried.items() if point is best)
        yield from try_all([(weight + i * step, bonus + j * step) for i in (-1, 0, 1) for j in (-1, 0, 1)])
        if best_point(tried.values()) is best:
            step //= 2


def search_blank_penalty(dev: StoredSet) -> Point:
    """The greedy search with the fewest errors, of equals that with the lowest penalty."""
    greedy = DecodingConfig(method="greedy")
    penalties = range(MAX_PENALTY + 1) if "blank_penalty" in dev.models.search(greedy).settings else [0]
    configs = [replace(greedy, blank_penalty=i * BONUS_UNIT) for i in penalties]
    return min(map(dev.point, configs), key=lambda point: point.total.num_errors)


def best_point(points: Iterable[Point]) -> Point:
    """The fewest errors; of equals the lowest weight, then the smallest bonus, then the lower one."""

    def rank(point: Point) -> tuple[float, ...]:
        config = point.config
        return point.total.num_errors, config.lm_weight, abs(config.insertion_bonus), config.insertion_bonus

    return min(points, key=rank)


def search_beam(dev: StoredSet, config: DecodingConfig) -> Iterator[BeamTrial]:
    """Try beams from narrow to wide until one is wide enough, and yield each; the last is the one to take.

    Wide enough: of the utterances with errors less than 1 % have a reference with a higher total score than the
    hypothesis; and a beam 16 times as wide (dev.widest_beam at most) improves scores by changing less than 0.5 % of the
    phones.
    """
    for beam in BEAMS:
        wider = min(16 * beam, dev.widest_beam)
        hyps, wider_hyps = (dev.search(replace(config, beam=width)) for width in (beam, wider))
        point = dev.point(replace(config, beam=beam))
        wrong = dev.compare_with_references(point, hyps)
        trial = BeamTrial(
            point,
            wider,
            dev.gain(config, hyps, wider_hyps),
            sum(pair.second_is_better for pair in wrong),
            len(wrong),
        )
        yield trial
        if trial.is_wide_enough or 2 * beam >= dev.widest_beam:
            return
