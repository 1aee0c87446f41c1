"""Training on sharded data directories: only a window of some shards is open at a time.

In each epoch the shards come in another random order, and the utterances of a shard, too. So all utterances of the
epoch stand in a line. The line is cut into windows. Within a window the batches are made as in data without shards.

Legend: n utterances.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from asrkit.errors import DataError, location
from asrkit.features.cmvn import sum_of
from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import FeatureLoader
from asrkit.formats.ctm import PhoneTimes
from asrkit.io.columns import Columns, read_columns
from asrkit.io.tables import Keys, Numbers
from asrkit.training.augment import Augmented, Augmenter, is_active
from asrkit.training.config import AugmentConfig
from asrkit.training.dataset import (
    Augmentation,
    FrameLabels,
    PhoneIds,
    TokenIds,
    TrainingSet,
    Window,
    frames_by_steps,
    steps_by_frames,
)
from asrkit.training.index import INDEX, make_index

T = TypeVar("T")


@dataclass(frozen=True)
class _Shard:
    """A shard of `size` utterances. The rows `left_out` (k,) are not trained on."""

    data_dir: Path
    size: int
    left_out: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.size - len(self.left_out)

    def index(self) -> Columns:
        """The index of the shard, which exists."""
        return read_columns(self.data_dir / INDEX)


@dataclass(frozen=True)
class Reading:
    """How to read training utterances; the fields are the arguments of TrainingSet.open of the same names."""

    config: FeatureConfig
    tokens: PhoneIds
    augment: AugmentConfig
    with_frame_labels: bool = False


class _Joined(Mapping[str, T]):
    """The mappings of several shards as one. `source` has the place in `parts` of the mapping with each utterance."""

    def __init__(self, source: Numbers, parts: Sequence[Mapping[str, T]]) -> None:
        self._source, self._parts = source, parts

    def __getitem__(self, utt_id: str) -> T:
        return self._parts[self._source[utt_id]][utt_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)


class _JoinedLabels(FrameLabels):
    """The labels of several shards as one."""

    def __init__(self, num_frames: Numbers, source: Numbers, parts: Sequence[FrameLabels]) -> None:
        self._num_frames, self._source, self._parts = num_frames, source, parts

    def at_speed(self, utt_id: str, num_frames: int, speed: float = 1.0) -> np.ndarray:
        return self._parts[self._source[utt_id]].at_speed(utt_id, num_frames, speed)


class _JoinedAugmenter:
    """The augmentation of several shards as one."""

    def __init__(self, source: Numbers, parts: Sequence[Augmentation]) -> None:
        self._source, self._parts = source, parts

    @property
    def join_prob(self) -> float:
        return self._parts[0].join_prob

    def __call__(self, utt_id: str, rng: np.random.Generator, min_frames: int = 1) -> Augmented:
        return self._parts[self._source[utt_id]](utt_id, rng, min_frames)

    def mask(self, feats: np.ndarray, rng: np.random.Generator) -> None:
        self._parts[0].mask(feats, rng)


class ShardedSet:
    """The training utterances of sharded data directories, which may be several corpora with weights.

    Memory is needed for the utterances of a window, and some hundred bytes for each shard. It keeps the statistics of
    speakers that augmentation needs.
    """

    def __init__(self, corpora: Sequence[tuple[Sequence[Path], float]], reading: Reading, window: int) -> None:
        """Open shards. An index is written to each that has none, or whose tables have changed.

        Args:
            corpora: the shards of each corpus, and its weight: how often an utterance comes in an epoch on average.
            reading: how to read them.
            window: the number of utterances that are mixed at a time, rounded to whole batches.

        Raises:
            DataError: as TrainingSet.open, but what concerns audio is checked when a shard comes into use; or an
                utterance is in two shards.
            OSError: an index cannot be written.
        """
        self.window = window
        self._reading = reading
        self._min_frames: np.ndarray | None = None
        self._open: dict[int, TrainingSet] = {}
        self._measured: dict[int, dict[int, np.ndarray]] = {}
        shards, stats, spans = [], [], []
        self.weights = [(len(data_dirs), weight) for data_dirs, weight in corpora]
        for data_dir in (data_dir for data_dirs, _ in corpora for data_dir in data_dirs):
            index = make_index(data_dir, reading.config, reading.tokens)
            keys = Keys.of_columns(index)
            shards.append(_Shard(data_dir, len(keys)))
            stats.append(index["stats"].copy())  # of the map nothing is kept: the pages read would stay in memory
            spans.append(keys.span())
        self.shards = tuple(shards)
        self.global_cmvn = sum_of(stats)
        if any(last >= first for (_, last), (first, _) in pairwise(sorted(spans))):
            self._expect_unique()

    def _expect_unique(self) -> None:
        """Raise DataError if an utterance is in two shards. It takes time, but no memory."""

        def entries(shard: _Shard) -> Iterator[tuple[str, str]]:
            return ((utt_id, str(shard.data_dir)) for utt_id in Keys.of_columns(shard.index()).in_order())

        for (one, here), (other, there) in pairwise(heapq.merge(*map(entries, self.shards))):
            if one == other:
                raise DataError(f"{location(Path(there) / 'text')}{one} is also in {here}; remove it from one of them")

    def __len__(self) -> int:
        """The number of utterances in an epoch."""
        return sum(count for _, count in self.portions())

    def portions(self) -> list[tuple[int, int]]:
        """What an epoch takes: the number of a shard, and how many of its utterances, without repetition.

        A shard is taken as a whole as often as the whole part of its weight says. The rest of the weight is a share of
        the corpus, and thus of each shard to rounding. Which utterances these are is another matter in each epoch.
        """
        found, numbers = [], iter(enumerate(map(len, self.shards)))
        for num_shards, weight in self.weights:
            corpus = [*islice(numbers, num_shards)]
            found += [*corpus] * int(weight)
            ends = [round(weight % 1 * end) for end in accumulate((size for _, size in corpus), initial=0)]
            found += [(number, end - begin) for (number, _), (begin, end) in zip(corpus, pairwise(ends), strict=True)]
        return [(number, count) for number, count in found if count]

    def split_infeasible(self, model: Any) -> dict[str, tuple[int, int]]:
        """Leave out the utterances that CTC cannot align. Returns them, as training.dataset.split_infeasible does."""
        excluded: dict[str, tuple[int, int]] = {}
        shards, longest = [], 0
        for shard in self.shards:
            index = shard.index()
            frames, needed = index["num_frames"], index["num_steps"]
            steps = steps_by_frames(model, int(frames.max()))[frames]
            keys, is_left_out = Keys.of_columns(index), steps < needed
            for row in np.flatnonzero(is_left_out).tolist():
                excluded[keys[row]] = int(steps[row]), int(needed[row])
            shards.append(replace(shard, left_out=np.flatnonzero(is_left_out)))
            longest = max(longest, int(frames[~is_left_out].max(initial=0)))
        self.shards = tuple(shards)
        self._min_frames = frames_by_steps(steps_by_frames(model, longest))
        return excluded

    def windows(self, batch_size: int, seed: tuple[int, ...], num_done: int = 0) -> Iterator[Window]:
        """The windows of an epoch, from the one on that has batch number `num_done`, counted from 0.

        Everything depends on the seed and the number of the window alone. All windows have equally many batches, give
        or take one.
        """
        for first, chosen in self.order(batch_size, seed, num_done):
            data = self._join(chosen)
            rng = np.random.default_rng((*seed, 0, 0, first + 1))
            yield Window(data, data.batches(batch_size, rng), first)

    def order(
        self, batch_size: int, seed: tuple[int, ...], num_done: int = 0
    ) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        """What `windows` open: the number of batches before each, and {shard: (k,) places of utterances in it}.

        Utterances that are left out have no place.
        """
        portions = self.portions()
        order = np.random.default_rng(seed).permutation(len(portions))
        ends = np.cumsum([portions[number][1] for number in order])
        num_utts = int(ends[-1])
        num_batches = -(-num_utts // batch_size)
        num_windows = -(-num_batches // max(self.window // batch_size, 1))
        bounds = [num_batches * number // num_windows for number in range(num_windows + 1)]
        for first, last in pairwise(bounds):
            if last <= num_done:
                continue
            begin, end = first * batch_size, min(last * batch_size, num_utts)
            chosen: dict[int, np.ndarray] = {}
            places = np.searchsorted(ends, (begin, end - 1), "right").tolist()
            for place in range(places[0], places[1] + 1):
                number = int(order[place])
                shard, count = portions[number]
                start = int(ends[place]) - count
                # NumPy takes no notice of zeros at the end of a seed. Batches have seeds without a 0 behind the epoch.
                shuffled = np.random.default_rng((*seed, 0, number + 1)).permutation(len(self.shards[shard]))
                taken = shuffled[:count][max(begin - start, 0) : end - start]
                chosen[shard] = np.concatenate([chosen[shard], taken]) if shard in chosen else taken
            yield first, chosen

    def _join(self, chosen: Mapping[int, np.ndarray]) -> TrainingSet:
        """One set of rows of some shards, which stay open; all other shards are closed."""
        self._open = {number: self._open.get(number) or self._open_shard(number) for number in sorted(chosen)}
        parts = [*self._open.values()]
        utt_ids: list[str] = []
        counts, sources = [], []
        for place, (number, part) in enumerate(self._open.items()):
            rows = np.delete(np.arange(self.shards[number].size), self.shards[number].left_out)[chosen[number]]
            rows.sort()
            num_frames = Numbers.of(part.num_frames)
            utt_ids += [num_frames.keys_by_row[row] for row in rows.tolist()]
            counts.append(num_frames.values_by_row[rows])
            sources.append(np.full(len(rows), place, np.int32))
        keys = Keys(utt_ids)
        source = Numbers(keys, np.concatenate(sources))
        num_frames = Numbers(keys, np.concatenate(counts))

        labels = [part.frame_labels for part in parts if isinstance(part.frame_labels, FrameLabels)]
        augmenters = [part.augmenter for part in parts if part.augmenter is not None]
        return TrainingSet(
            _Joined(source, [part.feats for part in parts]),
            num_frames,
            _Joined(source, [part.tokens for part in parts]),
            _JoinedLabels(num_frames, source, labels) if labels else None,
            _JoinedAugmenter(source, augmenters) if augmenters else None,
            self._min_frames,
        )

    def _open_shard(self, number: int) -> TrainingSet:
        data_dir, reading = self.shards[number].data_dir, self._reading
        index = self.shards[number].index()
        feats = FeatureLoader(data_dir, reading.config, self.global_cmvn, index)
        num_frames = Numbers(feats.utt_ids, index["num_frames"])
        labels = None
        if reading.with_frame_labels:
            labels = FrameLabels(PhoneTimes(data_dir / "phones.ctm"), reading.tokens, reading.config, num_frames)
        augmenter = None
        if is_active(reading.augment):
            augmenter = Augmenter.open(reading.augment, feats, decode_once=False)
            augmenter.stats = self._measured.setdefault(number, augmenter.stats)
        return TrainingSet(feats, num_frames, TokenIds.of_columns(feats.utt_ids, index), labels, augmenter)
