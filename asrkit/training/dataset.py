"""The utterances of training and evaluation: features, token ids and frame labels, loaded batch by batch.

Legend: N utterances, T frames, D size of a feature vector.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import FeatureLoader
from asrkit.findings import Findings
from asrkit.formats.ctm import PhoneTimes
from asrkit.io.columns import Columns
from asrkit.io.scp import scan_table, split_fields
from asrkit.io.tables import Keys, Numbers
from asrkit.lang.symbols import name_symbols
from asrkit.models.batching import Batch, bucket, collate
from asrkit.training.augment import Augmented, Augmenter, is_active
from asrkit.training.config import AugmentConfig


class PhoneIds(Protocol):
    """The interface of token tables for training."""

    @property
    def phone_ids(self) -> Mapping[str, int | None]:
        """The token id of each symbol of a transcript; None for a symbol that is left out."""


class Augmentation(Protocol):
    """The interface of Augmenter."""

    @property
    def join_prob(self) -> float:
        """The share of utterances that come right after another one."""

    def __call__(self, utt_id: str, rng: np.random.Generator, min_frames: int = 1) -> Augmented:
        """The augmented features of an utterance, without masks."""

    def mask(self, feats: np.ndarray, rng: np.random.Generator) -> None:
        """Mask the features `feats` (T, dim) in place."""


@dataclass(frozen=True)
class TrainingSet:
    """The utterances of training or evaluation, by utterance id.

    Memory grows by some hundred bytes per utterance, whatever the length of its audio. A set can be sent to another
    process.

    Attributes:
        feats: (T, D) features of each utterance, loaded when they are read.
        num_frames: T. Its keys are the utterances of the set; the other mappings can have more.
        tokens: token ids of each transcript.
        frame_labels: (T,) token id of each frame; -1 without a phone.
        augmenter: the augmentation, if there is any.
        min_frames: (steps,) for each number of steps, the fewest frames that give them; for augmentation.
    """

    feats: Mapping[str, np.ndarray]
    num_frames: Mapping[str, int]
    tokens: Mapping[str, Sequence[int]]
    frame_labels: Mapping[str, np.ndarray] | None = None
    augmenter: Augmentation | None = None
    min_frames: np.ndarray | None = None

    @classmethod
    def open(
        cls,
        data_dir: Path,
        config: FeatureConfig,
        global_cmvn: np.ndarray | None,
        tokens: PhoneIds,
        augment: AugmentConfig | None = None,
        with_frame_labels: bool = False,
    ) -> TrainingSet:
        """The utterances of a data directory that has features.

        Args:
            data_dir: the directory.
            config: settings of the features.
            global_cmvn: (2, D + 1) Kaldi statistics for global CMVN, if the settings ask for it.
            tokens: a token table, or another mapping from the symbols of a transcript to token ids.
            augment: settings of the augmentation, for training.
            with_frame_labels: whether to read phones.ctm.

        Raises:
            DataError: files are missing or faulty; an utterance has features or a transcript alone; a transcript is
                empty; a phone is not in the token table; or audio is missing from which features are computed. The
                message has a line for each fault. See also `Augmenter.open`.
        """
        data_dir = Path(data_dir)
        feats = FeatureLoader(data_dir, config, global_cmvn)
        if feats.are_computed:
            feats.open_audio()  # so that missing audio is found now, and not hours later
        num_frames = feats.all_num_frames()
        labels = None
        if with_frame_labels:
            labels = FrameLabels(PhoneTimes(data_dir / "phones.ctm"), tokens, config, num_frames)
        augmenter = Augmenter.open(augment, feats) if augment is not None and is_active(augment) else None
        return cls(feats, num_frames, _encode(data_dir / "text", feats, tokens), labels, augmenter)

    def __len__(self) -> int:
        return len(self.num_frames)

    def part(self, utt_ids: Container[str]) -> TrainingSet:
        """The set with only `utt_ids`. Babble is still made from all utterances."""
        num_frames = Numbers.of(self.num_frames)
        wanted = np.fromiter((utt_id in utt_ids for utt_id in num_frames), bool, len(num_frames))
        return replace(self, num_frames=num_frames.where(wanted))

    def windows(self, batch_size: int, seed: tuple[int, ...], num_done: int = 0) -> Iterator[Window]:
        """The one window of an epoch: all utterances in batches of random order, which depends on `seed`."""
        yield Window(self, self.batches(batch_size, np.random.default_rng(seed)), 0)

    def batches(self, batch_size: int, rng: np.random.Generator | None = None) -> Sequence[Sequence[str]]:
        """Utterance ids in batches of similar length: from short to long, or with `rng` in random order."""
        return bucket(self.num_frames, batch_size, rng)

    def load(
        self,
        utt_ids: Sequence[str],
        rng: np.random.Generator | Sequence[np.random.Generator] | None = None,
        num_views: int = 1,
    ) -> Batch:
        """The utterances as one batch, augmented if `rng` is given.

        Args:
            utt_ids: the utterances.
            rng: generator of all random numbers, or one generator per utterance.
            num_views: rows per utterance, one below the other. They differ only in their masks.
        """
        rows = [utt_id for utt_id in utt_ids for _ in range(num_views)]
        if rng is None or self.augmenter is None:
            return replace(collate(rows, self.feats, self.tokens, self.frame_labels), num_views=num_views)
        rngs = rng if isinstance(rng, Sequence) else [rng] * len(utt_ids)
        feats, tokens, labels = {}, {}, {}
        places = [*map(str, range(len(utt_ids)))]  # not ids: an utterance may come twice, drawn differently
        for place, utt_id, rng in zip(places, utt_ids, rngs, strict=True):
            joined = [(utt_id, self.augmenter(utt_id, rng, self._fewest_frames(utt_id)))]
            if before := self._neighbour(self.augmenter.join_prob, rng):
                joined.insert(0, (before, self.augmenter(before, rng, self._fewest_frames(before, num_more=2))))
            feats[place] = np.concatenate([each.feats for _, each in joined])
            tokens[place] = [token for said, each in joined if each.is_speech for token in self.tokens[said]]
            if isinstance(frame_labels := self.frame_labels, FrameLabels):
                labels[place] = np.concatenate([_labels(frame_labels, said, each) for said, each in joined])
        batch = collate([place for place in places for _ in range(num_views)], feats, tokens, labels or None)
        of_rows = [rng for rng in rngs for _ in range(num_views)]
        for row, num_frames, rng in zip(batch.feats.numpy(), batch.feat_lens.tolist(), of_rows, strict=True):
            self.augmenter.mask(row[:num_frames], rng)
        return replace(batch, utt_ids=tuple(rows), num_views=num_views)

    def _fewest_frames(self, utt_id: str, num_more: int = 0) -> int:
        """The number of frames that an utterance needs for `num_more` steps more than its tokens need."""
        return 1 if self.min_frames is None else int(self.min_frames[min_steps(self.tokens[utt_id]) + num_more])

    def _neighbour(self, join_prob: float, rng: np.random.Generator) -> str | None:
        """An utterance for another one to come right after, for a share `join_prob` of them; or None."""
        if not join_prob or rng.random() >= join_prob:
            return None
        utt_ids = Numbers.of(self.num_frames).keys_by_row
        utt_id = utt_ids[int(rng.integers(len(utt_ids)))]
        # Joined, both may have a step less than one by one, and need one more if they meet in the same phone.
        needed, fewest = min_steps(self.tokens[utt_id]) + 2, self.min_frames
        is_long = fewest is None or (needed < len(fewest) and fewest[needed] <= self.num_frames[utt_id])
        return utt_id if is_long else None


def _labels(frame_labels: FrameLabels, utt_id: str, augmented: Augmented) -> np.ndarray:
    """Labels (T,) of an augmented utterance. What was added has none."""
    added = augmented.added
    phones = frame_labels.at_speed(utt_id, len(augmented.feats) - sum(added), augmented.speed)
    before, behind = (max(-each, 0) for each in added)
    kept = phones[before : len(phones) - behind]
    return np.where(augmented.is_speech, np.pad(kept, np.maximum(added, 0), constant_values=-1), -1)


class Window(NamedTuple):
    """Utterances that are mixed in an epoch.

    Attributes:
        data: the utterances.
        plan: their ids, in batches.
        num_before: the number of batches in the windows before.
    """

    data: TrainingSet
    plan: Sequence[Sequence[str]]
    num_before: int


class FrameLabels(Mapping[str, np.ndarray]):
    """The phone at the centre of each frame, as token ids (T,) int64; -1 in gaps and for phones without a token."""

    def __init__(
        self, times: PhoneTimes, tokens: PhoneIds, config: FeatureConfig, num_frames: Mapping[str, int]
    ) -> None:
        self._times, self._config, self._num_frames = times, config, num_frames
        self._ids = {phone: -1 if token is None else token for phone, token in tokens.phone_ids.items()}

    def __getitem__(self, utt_id: str) -> np.ndarray:
        return self.at_speed(utt_id, self._num_frames[utt_id])

    def at_speed(self, utt_id: str, num_frames: int, speed: float = 1.0) -> np.ndarray:
        """Labels (num_frames,) of the utterance played `speed` times as fast."""
        times = self._times.get(utt_id, ())
        centers = self._config.framing.centers(num_frames) * speed
        last = np.searchsorted([time.start for time in times], centers, "right") - 1  # the last phone to have begun
        ids = np.array([*(self._ids.get(time.phone, -1) for time in times), -1])
        ends = np.array([*(time.end for time in times), -np.inf])
        return np.where(centers < ends[last], ids[last], -1)

    def __iter__(self) -> Iterator[str]:
        return iter(self._num_frames)

    def __len__(self) -> int:
        return len(self._num_frames)


class TokenIds(Mapping[str, list[int]]):
    """Token ids of each utterance, in one array of the smallest possible type."""

    def __init__(self, utt_ids: Keys, ids: array[int] | np.ndarray, starts: np.ndarray, counts: np.ndarray) -> None:
        """`starts` and `counts` (n,) say where the tokens of each utterance begin in `ids`, and how many they are."""
        self._utt_ids, self._ids, self._starts, self._counts = utt_ids, ids, starts, counts

    @classmethod
    def of_columns(cls, utt_ids: Keys, columns: Columns) -> TokenIds:
        """The token ids whose `columns()` these are."""
        return cls(utt_ids, columns["tokens"], columns["token_start"], columns["token_count"])

    def columns(self) -> dict[str, np.ndarray]:
        """The token ids (num_tokens,), and their starts and counts (n,); without `utt_ids`."""
        return {"tokens": np.asarray(self._ids), "token_start": self._starts, "token_count": self._counts}

    def __getitem__(self, utt_id: str) -> list[int]:
        row = self._utt_ids.row(utt_id)
        start = int(self._starts[row])
        return self._ids[start : start + int(self._counts[row])].tolist()

    def __iter__(self) -> Iterator[str]:
        return iter(self._utt_ids)

    def __len__(self) -> int:
        return len(self._utt_ids)


def min_steps(tokens: Sequence[int]) -> int:
    """The number of steps that CTC needs: one per token, and one for the blank between equal neighbours."""
    return len(tokens) + sum(map(operator.eq, tokens, tokens[1:]))


def split_infeasible(data: TrainingSet, model: Any) -> tuple[TrainingSet, dict[str, tuple[int, int]]]:
    """Separate the utterances that CTC can align from those that have fewer steps than CTC needs.

    Augmentation will keep the former long enough.

    Returns:
        The data with the former, and {utt_id: (number of steps, steps needed)} of the latter.
    """
    num_frames = Numbers.of(data.num_frames)
    needed = np.fromiter((min_steps(data.tokens[utt_id]) for utt_id in num_frames), np.int64, len(num_frames))
    steps = steps_by_frames(model, int(num_frames.values_by_row.max(initial=0)))[num_frames.values_by_row]
    excluded = {
        num_frames.keys_by_row[row]: (int(steps[row]), int(needed[row]))
        for row in np.flatnonzero(steps < needed).tolist()
    }
    kept = num_frames.where(steps >= needed)
    min_frames = frames_by_steps(steps_by_frames(model, int(kept.values_by_row.max(initial=0))))
    return replace(data, num_frames=kept, min_frames=min_frames), excluded


def steps_by_frames(model: Any, longest: int) -> np.ndarray:
    """The number of steps of a model for each number of frames up to `longest`, (longest + 1,). It never falls."""
    return np.array([model.num_steps(count) for count in range(longest + 1)])


def frames_by_steps(steps: np.ndarray) -> np.ndarray:
    """The fewest frames that give each number of steps, (num_steps + 1,), for the `steps_by_frames` `steps` (n,)."""
    return np.searchsorted(steps, np.arange(steps[-1] + 1))


def _encode(text: Path, feats: FeatureLoader, tokens: PhoneIds) -> TokenIds:
    """Token ids of the utterances that have features. `text` must hold exactly these utterances."""
    utt_ids = feats.utt_ids
    id_of = tokens.phone_ids
    last_id = max((token for token in id_of.values() if token is not None), default=0)
    ids = array("B" if last_id < 256 else "H" if last_id < 65536 else "I")
    starts, counts = np.zeros(len(utt_ids), np.int64), np.full(len(utt_ids), -1, np.int32)
    findings, foreign = Findings(), Findings()
    for _, utt_id, phones in scan_table(text, findings, empty_ok=True):
        row = utt_ids.find(utt_id)
        if row < 0:
            foreign.error(f"no features for {utt_id}; repeat stage 1 (asrkit extract)", text)
            continue
        starts[row], counts[row] = len(ids), 0
        try:
            ids.extend([token for phone in split_fields(phones) if (token := id_of[phone]) is not None])
        except KeyError:
            unknown = name_symbols(sorted({phone for phone in split_fields(phones) if phone not in id_of}), id_of)
            findings.error(f"{utt_id}: phones not in the token table: {unknown}", text)
            continue
        counts[row] = len(ids) - starts[row]
        if not counts[row]:
            findings.error(f"{utt_id}: empty transcript; give its phones or remove it", text)
    for row in np.flatnonzero(counts < 0).tolist():
        where = f"which {feats.table.name} has"
        findings.error(f"no transcript for {utt_ids[row]}, {where}; repeat stage 1 (asrkit extract)", text)
    findings.extend(foreign)
    findings.raise_errors()
    return TokenIds(utt_ids, ids, starts, counts)
