"""Utterances to train or evaluate on: features, token ids and frame labels, loaded a batch at a time.

Legend: N utterances, T frames, D feature dim.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.batching import Batch, bucket, collate
from asrkit.errors import DataError, at, raise_if_any
from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import FeatureLoader
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.per import read_transcripts
from asrkit.training.config import AugmentConfig


@dataclass(frozen=True)
class TrainingSet:
    """Utterances to train or evaluate on, by utterance id. `num_frames` holds those that belong to the set."""

    feats: Mapping[str, np.ndarray]  # (T, D), loaded when asked for
    num_frames: Mapping[str, int]
    tokens: Mapping[str, Sequence[int]]
    frame_labels: Mapping[str, np.ndarray] | None = None  # (T,), -1 where no phone is

    @classmethod
    def open(
        cls,
        data_dir: Path,
        config: FeatureConfig,
        global_cmvn: np.ndarray | None,
        tokens: TokenTable,
        augment: AugmentConfig | None = None,
        with_frame_labels: bool = False,
    ) -> TrainingSet:
        """The utterances of a data directory that has features.

        Raises DataError for files that are missing or faulty, for utterances that only one of feats.scp and text
        holds, for empty transcripts and for phones that are not in the token table; a line for each.
        """
        feats = FeatureLoader(data_dir, config, global_cmvn)
        encoded = _encode(data_dir / "text", feats, tokens)
        return cls(feats, {utt_id: feats.num_frames(utt_id) for utt_id in feats}, encoded)

    def __len__(self) -> int:
        return len(self.num_frames)

    def batches(self, batch_size: int, rng: np.random.Generator | None = None) -> Sequence[Sequence[str]]:
        """Utterance ids in batches of similar length: short to long, or with `rng` in random order."""
        return bucket(self.num_frames, batch_size, rng)

    def load(self, utt_ids: Sequence[str], rng: np.random.Generator | None = None) -> Batch:
        """The utterances as one batch; with `rng` augmented, all draws from it."""
        return collate(utt_ids, self.feats, self.tokens, self.frame_labels)


def min_steps(tokens: Sequence[int]) -> int:
    """Steps that CTC needs for a token sequence: one each, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))


def split_infeasible(data: TrainingSet, model: Any) -> tuple[TrainingSet, dict[str, tuple[int, int]]]:
    """Part the utterances that CTC can align from those with fewer steps than it needs.

    Returns: the rest of the data, and {utt_id: (steps there are, steps needed)} of those left out.
    """
    steps = {utt_id: model.num_steps(num_frames) for utt_id, num_frames in data.num_frames.items()}
    needed = {utt_id: min_steps(data.tokens[utt_id]) for utt_id in steps}
    excluded = {utt_id: (steps[utt_id], needed[utt_id]) for utt_id in steps if steps[utt_id] < needed[utt_id]}
    kept = {utt_id: num_frames for utt_id, num_frames in data.num_frames.items() if utt_id not in excluded}
    return replace(data, num_frames=kept), excluded


def _encode(text: Path, utt_ids: Iterable[str], tokens: TokenTable) -> dict[str, list[int]]:
    """Token ids of the utterances that have features; `text` must hold these and no others."""
    transcripts = read_transcripts(text)
    encoded, faults = {}, []
    for utt_id in utt_ids:
        if utt_id not in transcripts:
            faults.append(f"{at(text)}no transcript for {utt_id}, which feats.scp has; repeat stage 1 (asrkit extract)")
            continue
        phones = transcripts.pop(utt_id)
        if not phones:
            faults.append(f"{at(text)}{utt_id}: empty transcript; give its phones or remove it")
        try:
            encoded[utt_id] = tokens.encode(phones, f"{text}: {utt_id}")
        except DataError as error:
            faults.append(str(error))
    faults += [f"{at(text)}no features for {utt_id}; repeat stage 1 (asrkit extract)" for utt_id in transcripts]
    raise_if_any(faults)
    return encoded
