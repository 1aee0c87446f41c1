"""Cepstral mean and variance normalization: Kaldi's compute-cmvn-stats, apply-cmvn and apply-cmvn-online.

Statistics are a (2, D + 1) float64 matrix: sums and number of frames; sums of squares and 0. Those of a speaker are
the sum of those of the speaker's utterances. `NORMALIZATIONS` has the modes of normalization by their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from asrkit._native import kernel
from asrkit.errors import ConfigError, DataError

CmvnMode = Literal["speaker", "utterance", "global", "running", "none"]
Normalizer = Callable[[np.ndarray], np.ndarray]  # static features (T, D) to normalized ones, (T, D) float32

VARIANCE_FLOOR = 1e-20
_MAX_MEAN = 1e30  # of features and their squares: float32 has room for it
_RUNNING_WINDOW, _RUNNING_PRIOR = 600, 200  # frames; Kaldi's defaults


def accumulate(feats: np.ndarray) -> np.ndarray:
    """Statistics (2, D + 1) float64 of `feats` (T, D)."""
    num_frames, dim = feats.shape
    stats = np.zeros((2, dim + 1))
    native = kernel("_mfcc")
    if native is not None and feats.dtype == np.float32:
        native.accumulate(np.require(feats, None, ("C", "A")), stats)
        return stats
    feats = np.asarray(feats, np.float64)
    stats[0, :dim] = feats.sum(axis=0)
    stats[0, dim] = num_frames
    stats[1, :dim] = np.einsum("td,td->d", feats, feats)
    return stats


def apply_cmvn(feats: np.ndarray, stats: np.ndarray, norm_vars: bool = True) -> np.ndarray:
    """`feats` (T, D) less the mean and, with `norm_vars`, divided by the standard deviation: (T, D) float32.

    Raises DataError for statistics of another dimension, of less than one frame or with negative or infinite values.
    """
    stats = check_stats(stats, feats.shape[1])
    native = kernel("_mfcc")
    if native is not None:
        out = np.empty(feats.shape, np.float32)
        native.full_features(np.require(feats, np.float32, ("C", "A")), stats, norm_vars, 0, 1, out)
        return out
    dim = feats.shape[1]
    mean = stats[0, :dim] / stats[0, dim]
    normalized = np.asarray(feats, np.float32) - mean.astype(np.float32)
    if norm_vars:
        variance = np.maximum(stats[1, :dim] / stats[0, dim] - mean * mean, VARIANCE_FLOOR)
        normalized *= (1.0 / np.sqrt(variance)).astype(np.float32)
    return normalized


class RunningCmvn:
    """CMVN of an utterance that is still going on: each frame by what came before it. One object for each utterance.

    A frame's statistics are those of the last 600 frames, itself included; where there are fewer, the training set's
    `global_stats` (2, D + 1) count for as many as are missing, 200 at most (Kaldi's OnlineCmvn). Frames may come in any
    pieces: the results are the same to the bit. Raises DataError as apply_cmvn.
    """

    def __init__(self, global_stats: np.ndarray, norm_vars: bool = True) -> None:
        dim = global_stats.shape[1] - 1
        self._stats = check_stats(global_stats, dim)
        self._prior = (self._stats[:, :dim] / self._stats[0, dim]).ravel()
        self._norm_vars = norm_vars
        self._sums = np.zeros((1, 2 * dim))  # up to each of the last frames: of values, and of their squares
        self._num_frames = 0

    def __call__(self, feats: np.ndarray) -> np.ndarray:
        """The next frames (t, D) normalized, (t, D) float32."""
        check_stats(self._stats, feats.shape[1])
        values = np.asarray(feats, np.float64)
        sums = np.concatenate([self._sums[-1:], np.concatenate([values, values * values], axis=1)]).cumsum(axis=0)
        self._sums = sums = np.concatenate([self._sums[:-1], sums])
        last = np.arange(len(sums) - len(values), len(sums))
        counts = np.minimum(self._num_frames + 1 + np.arange(len(values)), _RUNNING_WINDOW)[:, None]
        self._num_frames += len(values)
        prior = np.minimum(_RUNNING_WINDOW - counts, _RUNNING_PRIOR)
        window = sums[last] - sums[np.maximum(last - _RUNNING_WINDOW, 0)] + prior * self._prior
        means = window / (counts + prior)
        mean, squares = means[:, : feats.shape[1]], means[:, feats.shape[1] :]
        self._sums = sums[-_RUNNING_WINDOW - 1 :]
        normalized = values - mean
        if self._norm_vars:
            normalized /= np.sqrt(np.maximum(squares - mean * mean, VARIANCE_FLOOR))
        return normalized.astype(np.float32)


def check_stats(stats: np.ndarray, dim: int) -> np.ndarray:
    """`stats` as contiguous float64. Raises DataError where they cannot normalize features of dimension `dim`."""
    if stats.shape != (2, dim + 1):
        raise DataError(
            f"CMVN statistics of shape {stats.shape}; expected (2, {dim + 1}) for {dim}-dimensional features"
        )
    count = stats[0, dim]
    largest = np.abs(stats[:, :dim]).max(initial=0.0)
    if not (count >= 1.0 and np.isfinite(stats).all() and largest <= _MAX_MEAN * count):
        raise DataError(
            f"CMVN statistics of {count:g} frames, sums up to {largest:g}; expected one frame or more and finite sums, "
            f"up to {_MAX_MEAN:g} a frame"
        )
    return np.require(stats, np.float64, ("C", "A"))


@dataclass(frozen=True)
class Normalization:
    """A mode of CMVN: whose statistics normalize a frame, and what follows from that. The base of all modes.

    `norm_vars`: whether variances become 1, too. Attributes of the modes:

        name: the mode's name in settings.
        stats_owner: in messages, whose statistics are given to the mode; empty where it takes none.
        per_speaker: the statistics given are those of the utterance's speaker.
        takes_global_stats: the statistics given are those of the whole training set.
        needs_whole_utterance: the statistics are not known before the end of the audio, so there can be no streams.
        is_fixed: one mean and one variance serve all frames of an utterance. A network over windows then normalizes
            within its graph, by statistics that it is given; otherwise it takes features that are normalized already.
        centers: the mean of normalized features is about 0.
        history: the number of frames before a frame that its normalization depends on, where it is not fixed.
    """

    norm_vars: bool = True

    name: ClassVar[CmvnMode]
    stats_owner: ClassVar[str] = ""
    per_speaker: ClassVar[bool] = False
    takes_global_stats: ClassVar[bool] = False
    needs_whole_utterance: ClassVar[bool] = False
    is_fixed: ClassVar[bool] = True
    centers: ClassVar[bool] = True
    history: ClassVar[int] = 0

    @property
    def without_speaker(self) -> Normalization:
        """The mode for audio that comes without a speaker."""
        return self

    @property
    def with_given_stats(self) -> Normalization:
        """The mode that takes the statistics it is given, whoever they belong to."""
        return GlobalNormalization(self.norm_vars) if self.is_fixed else self

    def needed_stats(self, stats: np.ndarray | None) -> np.ndarray | None:
        """`stats` where the mode is given any, else None. Raises ConfigError when they are missing."""
        return self._given(stats) if self.stats_owner else None

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        """What normalizes the static features of one utterance; in a mode for streams, also piece by piece.

        `stats` (2, D + 1): the statistics given, which `needed_stats` knows. Raises ConfigError as `needed_stats` does,
        and DataError, at once or from the normalizer, as `check_stats` does.
        """
        return partial(apply_cmvn, stats=self._given(stats), norm_vars=self.norm_vars)

    def _given(self, stats: np.ndarray | None) -> np.ndarray:
        if stats is None:
            raise ConfigError(
                f"features.cmvn: {self.name!r} without statistics; expected those of the {self.stats_owner}"
            )
        return stats


class SpeakerNormalization(Normalization):
    """By the statistics of all utterances of the speaker."""

    name = "speaker"
    stats_owner = "speaker"
    per_speaker = True
    needs_whole_utterance = True

    @property
    def without_speaker(self) -> Normalization:
        return UtteranceNormalization(self.norm_vars)


class UtteranceNormalization(Normalization):
    """By the utterance's own statistics."""

    name = "utterance"
    needs_whole_utterance = True

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        return lambda feats: apply_cmvn(feats, accumulate(feats), self.norm_vars)


class GlobalNormalization(Normalization):
    """By the statistics of the whole training set."""

    name = "global"
    stats_owner = "training set"
    takes_global_stats = True


class RunningNormalization(Normalization):
    """By the frames up to each frame, and at the beginning by the training set's statistics (`RunningCmvn`)."""

    name = "running"
    stats_owner = "training set"
    takes_global_stats = True
    is_fixed = False
    history = _RUNNING_WINDOW

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        return RunningCmvn(self._given(stats), self.norm_vars)


class NoNormalization(Normalization):
    """Features stay as they are."""

    name = "none"
    is_fixed = False
    centers = False

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        return lambda feats: feats


NORMALIZATIONS: dict[CmvnMode, type[Normalization]] = {
    mode.name: mode
    for mode in (
        SpeakerNormalization,
        UtteranceNormalization,
        GlobalNormalization,
        RunningNormalization,
        NoNormalization,
    )
}
