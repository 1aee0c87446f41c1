"""Tuning: find the language model weight, insertion bonus and beam with the fewest errors on dev."""

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
from asrkit.decoding.scorer import SearchLm
from asrkit.decoding.search_errors import Labeling, ScorePair, compare_scores
from asrkit.lang.tokens import TokenTable
from asrkit.parallel import track
from asrkit.scoring.per import Counts, pool, score
from asrkit.scoring.protocols import Protocol

# Weights and bonuses are whole multiples of these units. So the same settings are always equal numbers.
WEIGHT_UNIT, BONUS_UNIT = 0.1, 0.25
COARSE = 2  # units from one point of the coarse grid to the next
WEIGHTS, BONUSES = range(0, 21, COARSE), range(-4, 13, COARSE)  # 0 to 2, -1 to 3 nats
GRID_BEAM = 16
BEAMS = (16, 32, 64, 128, 256, 512, 1024)
MAX_PENALTY = 12  # units of BONUS_UNIT: 3 nats
MAX_BEAM = 4096  # the widest beam that is tried; wider ones take too long
MAX_DECODER_BEAM = 64  # the same for attention decoders and transducers
MAX_SEARCH_ERRORS = 0.01  # accepted share of search errors among the wrong utterances
MAX_IMPROVED = 0.005  # accepted share of phones that a wider beam changes
MAX_FOLDS = 20  # folds of the cross-validation


@dataclass(frozen=True)
class Point:
    """The result of one setting.

    Attributes:
        config: the settings.
        counts: the errors of each utterance, in the order of the set.
    """

    config: DecodingConfig
    counts: tuple[Counts, ...]

    @cached_property
    def total(self) -> Counts:
        """The errors of all utterances together."""
        return pool(self.counts)


@dataclass(frozen=True)
class Gain:
    """What another search finds in place of some hypotheses.

    Attributes:
        num_changed: utterances with another labelling.
        num_improved: those among them whose total score rises.
        num_edits: insertions, deletions and substitutions of phones in the improved labellings.
        num_phones: phones in the labellings of the other search.
    """

    num_changed: int
    num_improved: int
    num_edits: int
    num_phones: int


@dataclass(frozen=True)
class BeamTrial:
    """A beam, compared with a much wider one and with the references, by total score.

    Attributes:
        point: the result of the beam.
        wider: width of the wider beam.
        gain: what the wider beam finds.
        num_below_reference: wrong utterances whose reference has a higher score. These are search errors.
        num_wrong: utterances with an error.
    """

    point: Point
    wider: int
    gain: Gain
    num_below_reference: int
    num_wrong: int

    @property
    def is_wide_enough(self) -> bool:
        """Whether the beam makes few search errors, and a wider beam would change few phones."""
        return self.num_below_reference < max(MAX_SEARCH_ERRORS * self.num_wrong, 1e-9) and self.gain.num_edits < max(
            MAX_IMPROVED * self.gain.num_phones, 1e-9
        )


@dataclass(frozen=True)
class TunedSearch:
    """The settings that tuning tried and chose.

    Attributes:
        points: the trials of weight and bonus.
        trials: the trials of the beam; the last one is the choice.
        greedy: the best greedy search.
    """

    points: Sequence[Point]
    trials: Sequence[BeamTrial]
    greedy: Point

    @property
    def winner(self) -> Point:
        """The result of the chosen settings."""
        return self.trials[-1].point

    @property
    def config(self) -> DecodingConfig:
        """The chosen settings, with the blank penalty of the best greedy search."""
        return replace(self.winner.config, blank_penalty=self.greedy.config.blank_penalty)


@dataclass(frozen=True)
class Fold:
    """One fold of the cross-validation.

    Attributes:
        members: utterances that are left out, by their places in the set.
        config: the best settings on all other utterances.
        greedy: the best settings of greedy search on them.
    """

    members: tuple[int, ...]
    config: DecodingConfig
    greedy: DecodingConfig


@dataclass(frozen=True)
class LeftOut:
    """Cross-validation of the choice of settings: each speaker, or each utterance, is left out once.

    Attributes:
        unit: what is left out.
        num_units: the number of speakers or utterances.
        folds: the parts that are left out together.
    """

    unit: Literal["speakers", "utterances"]
    num_units: int
    folds: Sequence[Fold]


class StoredSet:
    """Utterances with outputs of a network in memory and with references, on which settings are tried."""

    def __init__(
        self,
        log_probs: Mapping[str, np.ndarray],
        refs: Mapping[str, Sequence[str]],
        tokens: TokenTable,
        models: SearchModels,
        protocol: Protocol,
        num_threads: int,
    ):
        """Make a set.

        Args:
            log_probs: utterance id -> (T, V) log-probabilities, or another input of the search.
            refs: utterance id -> reference phones, for the same utterances; they give the order.
            tokens: the phones and their ids.
            models: the models of the search.
            protocol: defines errors.
            num_threads: threads of the search.
        """
        self.refs = {utt_id: tuple(ref) for utt_id, ref in refs.items()}
        self.log_probs = [log_probs[utt_id] for utt_id in refs]
        self.tokens, self.models, self.protocol, self.num_threads = tokens, models, protocol, num_threads
        # References as labellings; None if a phone has no token.
        self.ref_labelings = [
            tuple(tokens.encode(ref)) if all(phone in tokens for phone in ref) else None for ref in self.refs.values()
        ]
        self._counts: dict[tuple[str, Labeling], Counts] = {}
        self._searched: dict[DecodingConfig, dict[int, Labeling]] = {}  # by place in the set
        self._labelings: dict[Labeling, Labeling] = {}  # so that equal labellings share memory

    @property
    def lm(self) -> SearchLm | None:
        """The language model, or None."""
        return self.models.lm

    @property
    def widest_beam(self) -> int:
        """The widest beam that is tried; wider ones take too long."""
        return MAX_BEAM if self.models.decoder is None else MAX_DECODER_BEAM

    def search(self, config: DecodingConfig) -> list[Labeling]:
        """The best labelling of each utterance."""
        return self.search_some(config, range(len(self.log_probs)))

    def search_some(self, config: DecodingConfig, members: Sequence[int]) -> list[Labeling]:
        """The best labelling of the utterances at these places.

        Each utterance is searched only once with the same settings.
        """
        found = self._searched.setdefault(config, {})
        if new := [index for index in members if index not in found]:
            results = self.models.search(config).decode_all([self.log_probs[i] for i in new], self.num_threads)
            for index, (best, *_) in zip(new, results, strict=True):
                found[index] = self._labelings.setdefault(best.tokens, best.tokens)
        return [found[index] for index in members]

    def count(self, hyps: Sequence[Labeling]) -> tuple[Counts, ...]:
        """The errors of each utterance. Each labelling is scored only once."""
        new = {utt_id: hyp for utt_id, hyp in zip(self.refs, hyps, strict=True) if (utt_id, hyp) not in self._counts}
        if new:
            result = self.protocol.score_part(
                {utt_id: self.refs[utt_id] for utt_id in new},
                {utt_id: self.tokens.decode(hyp) for utt_id, hyp in new.items()},
            )
            self._counts |= {(utt_id, new[utt_id]): counts for utt_id, counts in result.per_utt.items()}
        return tuple(self._counts[utt_id, hyp] for utt_id, hyp in zip(self.refs, hyps, strict=True))

    def point(self, config: DecodingConfig) -> Point:
        """The result of these settings."""
        return Point(config, self.count(self.search(config)))

    def part(self, members: Sequence[int]) -> StoredSet:
        """The utterances at these places, as a set. It shares results with the whole set."""
        return _Part(self, members)

    def compare_with_references(self, point: Point, hyps: Sequence[Labeling]) -> list[ScorePair]:
        """For each utterance with an error in `point`: the exact scores of its hypothesis and of its reference."""
        pairs = compare_scores(self.log_probs, hyps, self.ref_labelings, self.models.search(point.config))
        return [pair for pair in pairs if point.counts[pair.index].num_errors]

    def gain(self, config: DecodingConfig, hyps: Sequence[Labeling], others: Sequence[Labeling]) -> Gain:
        """What a search that found `others` adds to a search that found `hyps`. Scores are those of `config`."""
        pairs = compare_scores(self.log_probs, hyps, others, self.models.search(config))
        better = {str(pair.index): pair.index for pair in pairs if pair.second_is_better}
        phones = [
            {name: self.tokens.decode(labelings[index]) for name, index in better.items()}
            for labelings in (others, hyps)
        ]
        num_edits = score(*phones).num_errors if better else 0
        return Gain(len(pairs), len(better), num_edits, sum(map(len, others)))

    def evidence(self, config: DecodingConfig, hyps: Sequence[Labeling]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For each utterance of U phones: phone_evidence (U, 4) and right_phones (U,)."""
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
    """Search for weight and bonus, then for the beam, and for the blank penalty of greedy search.

    `start` has the settings that are not searched for. Progress is printed to stderr.
    """
    points = list(track(search_settings(dev, start), "tuning weight and bonus"))
    trials = list(track(search_beam(dev, best_point(points).config), "tuning beam"))
    return TunedSearch(points, trials, search_blank_penalty(dev))


def leave_out(dev: StoredSet, start: DecodingConfig, beam: int, speakers: Sequence[str]) -> LeftOut | None:
    """Cross-validate the choice of settings: choose again without each speaker, or without each of MAX_FOLDS groups.

    If there is one speaker, utterances are left out. The result is None for one utterance. The whole search for weight,
    bonus and blank penalty is repeated. Searches that were made on `dev` are not made again. Progress is printed to
    stderr.

    Args:
        dev: the whole set.
        start: as for tune_search.
        beam: the beam that was chosen on the whole set. It is not chosen again: that choice does not look at errors of
            recognition, so it favours nobody, and it would need many searches with wide beams.
        speakers: the speaker of each utterance.
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
    """The errors of each utterance with the settings that were chosen without it.

    So no utterance is scored with settings that were chosen on it, which would be too optimistic.
    """
    found: dict[int, Counts] = {}
    for fold in left_out.folds:
        found |= zip(fold.members, dev.part(fold.members).point(config_of(fold)).counts, strict=True)
    return tuple(found[index] for index in range(len(found)))


def search_settings(dev: StoredSet, start: DecodingConfig) -> Iterator[Point]:
    """Try settings on a coarse grid, then in finer and finer steps around the best one. Yield each result.

    `best_point` defines the best one. `start` has the settings that are not searched for. Without a language model the
    weight stays 0.
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
    """The greedy search with the fewest errors. Of equals, the one with the lowest penalty."""
    greedy = DecodingConfig(method="greedy")
    penalties = range(MAX_PENALTY + 1) if "blank_penalty" in dev.models.search(greedy).settings else [0]
    configs = [replace(greedy, blank_penalty=i * BONUS_UNIT) for i in penalties]
    return min(map(dev.point, configs), key=lambda point: point.total.num_errors)


def best_point(points: Iterable[Point]) -> Point:
    """The point with the fewest errors. Of equals, the lowest weight, then the smallest bonus, then the lower one."""

    def rank(point: Point) -> tuple[float, ...]:
        config = point.config
        return point.total.num_errors, config.lm_weight, abs(config.insertion_bonus), config.insertion_bonus

    return min(points, key=rank)


def search_beam(dev: StoredSet, config: DecodingConfig) -> Iterator[BeamTrial]:
    """Try beams from narrow to wide until one is wide enough. Yield each; the last one is the choice.

    A beam is wide enough if two conditions hold. Less than 1 % of the utterances with errors are search errors: their
    reference has a higher total score than the hypothesis. And a beam 16 times as wide (at most `dev.widest_beam`)
    improves scores by changing less than 0.5 % of the phones.
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
