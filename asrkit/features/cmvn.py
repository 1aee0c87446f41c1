"""Cepstral mean and variance normalization: Kaldi's compute-cmvn-stats, apply-cmvn and apply-cmvn-online.

Statistics are a (2, D + 1) float64 matrix: sums and number of frames; sums of squares and 0. Those of a speaker are
the sum of those of the speaker's utterances. `NORMALIZATIONS` has the modes of normalization by their names. Kaldi's
modes count all frames, so that a pause moves the mean and widens the variance. Those called "speech_" count the frames
that hold speech (speech_frames.py), and let no frame be quieter than a quiet room. Where few frames count, the training
set's statistics take the place of those that are missing: the mean of a word of one vowel is that vowel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from asrkit._native import kernel
from asrkit.errors import ConfigError, DataError
from asrkit.features.speech_frames import LevelScale, SpeechLevels, SpeechStream

CmvnMode = Literal[
    "speaker",
    "utterance",
    "global",
    "running",
    "speech_speaker",
    "speech_utterance",
    "speech_global",
    "speech_running",
    "none",
]
Normalizer = Callable[[np.ndarray], np.ndarray]  # static features (T, D) to normalized ones, (T, D) float32
Blocks = Callable[[], Iterable[np.ndarray]]  # the static features of one utterance, block by block, from the beginning

VARIANCE_FLOOR = 1e-20
_MAX_MEAN = 1e30  # of features and their squares: float32 has room for it
_RUNNING_WINDOW, _RUNNING_PRIOR = 600, 200  # frames; Kaldi's defaults
_C0 = LevelScale()
_SPREAD, _SPREAD_OF_FEW, _FEW = 0.4, 0.2, 50  # shares of the training set's deviations; frames
_ENOUGH = 100  # frames that tell a voice from what it says; for those that are missing the training set's count
_FLOOR_DB = 40  # digital silence becomes as quiet as a quiet room: so far below the mean level of speech


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


def sum_of(stats: Iterable[np.ndarray]) -> np.ndarray:
    """The statistics of all of them together."""
    return sum(stats, start=np.zeros(()))


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
    `global_stats` (2, D + 1) count for as many as are missing, 200 at most (Kaldi's OnlineCmvn). With `speech`, which
    tells levels, they are those of the last 600 frames that hold speech, and levels have a floor. Frames may come in
    any pieces: the results are the same to the bit. Raises DataError as apply_cmvn.
    """

    def __init__(self, global_stats: np.ndarray, norm_vars: bool = True, speech: LevelScale | None = None) -> None:
        dim = global_stats.shape[1] - 1
        self._stats = check_stats(global_stats, dim)
        self._prior = (self._stats[:, :dim] / self._stats[0, dim]).ravel()
        self._norm_vars = norm_vars
        self._speech, self._is_speech = speech, SpeechStream()
        self._sums = np.zeros((1, 2 * dim))  # up to each of the last frames that count: of values, and of their squares
        self._num_counted = 0

    def __call__(self, feats: np.ndarray) -> np.ndarray:
        """The next frames (t, D) normalized, (t, D) float32."""
        dim = feats.shape[1]
        check_stats(self._stats, dim)
        values = np.asarray(feats, np.float64)
        counts = np.ones(len(values), bool) if self._speech is None else self._is_speech(self._speech.steps(feats))
        counted = values[counts]
        sums = np.concatenate([self._sums[-1:], np.concatenate([counted, counted * counted], axis=1)]).cumsum(axis=0)
        num_new = np.cumsum(counts)
        last = len(self._sums) - 1 + num_new
        sums = np.concatenate([self._sums[:-1], sums])
        in_window = np.minimum(self._num_counted + num_new, _RUNNING_WINDOW)[:, None]
        self._num_counted += len(counted)
        prior = np.minimum(_RUNNING_WINDOW - in_window, _RUNNING_PRIOR)
        window = sums[last] - sums[np.maximum(last - _RUNNING_WINDOW, 0)] + prior * self._prior
        means = window / (in_window + prior)
        mean, squares = means[:, :dim], means[:, dim:]
        self._sums = sums[-_RUNNING_WINDOW - 1 :]
        normalized = values - mean
        if self._speech is not None:
            np.maximum(normalized, self._speech.below_mean(_FLOOR_DB, dim), out=normalized)
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

    `norm_vars`: whether variances become 1, too. `level`: how the features tell a frame's level. Attributes of the
    modes:

        name: the mode's name in settings.
        stats_owner: in messages, whose statistics are given to the mode; empty where it takes none.
        per_speaker: the statistics given are those of the utterance's speaker.
        takes_global_stats: it needs the statistics of the whole training set, whether they are those given or fill up
            those of few frames.
        needs_whole_utterance: the statistics are not known before the end of the audio, so there can be no streams.
        is_fixed: one mean and one variance serve all frames of an utterance, so that a network can normalize within its
            graph by statistics that it is given. In other modes a model takes features that are normalized already.
        centers: the mean of normalized features is about 0.
        counts_speech: statistics are of the frames that hold speech, and levels have a floor.
    """

    norm_vars: bool = True
    level: LevelScale = _C0

    name: ClassVar[CmvnMode]
    stats_owner: ClassVar[str] = ""
    per_speaker: ClassVar[bool] = False
    takes_global_stats: ClassVar[bool] = False
    needs_whole_utterance: ClassVar[bool] = False
    is_fixed: ClassVar[bool] = True
    centers: ClassVar[bool] = True
    counts_speech: ClassVar[bool] = False

    @property
    def is_affine(self) -> bool:
        """Whether nothing happens to features but one shift and one scale for all frames, if even that."""
        return not self.counts_speech and (self.is_fixed or not self.centers)

    @property
    def without_speaker(self) -> Normalization:
        """The mode for audio that comes without a speaker."""
        return self

    @property
    def with_given_stats(self) -> Normalization:
        """The mode for what a model takes: by the statistics it is given, or none where that is normalized already."""
        if not self.is_fixed:
            return NoNormalization(self.norm_vars, self.level)
        return (SpeechGlobal if self.counts_speech else GlobalNormalization)(self.norm_vars, self.level)

    def needed_stats(self, stats: np.ndarray | None) -> np.ndarray | None:
        """`stats` where the mode is given any, else None. Raises ConfigError when they are missing."""
        return self._given(stats) if self.stats_owner else None

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        """The normalizer of the static features of one utterance; in a mode for streams, also piece by piece.

        `stats` (2, D + 1): the statistics given, which `needed_stats` knows. Raises ConfigError as `needed_stats` does,
        and DataError, at once or from the normalizer, as `check_stats` does.
        """
        given = self.needed_stats(stats)

        def normalize(feats: np.ndarray) -> np.ndarray:
            used = self.used_stats(feats, given)
            return apply_cmvn(self.floored(feats, used), used, self.norm_vars)

        return normalize

    def used_stats(self, static: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        """The statistics (2, D + 1) that normalize an utterance's static features (T, D).

        `given` (2, D + 1): those that the mode is given. Raises ConfigError as `needed_stats` does.
        """
        return self._given(given)

    def filled(self, stats: np.ndarray, global_stats: np.ndarray) -> np.ndarray:
        """Statistics (2, D + 1) of an utterance or a speaker, of 100 frames or more; in Kaldi's modes as they are.

        For the frames that are missing the training set's `global_stats` (2, D + 1) count, as in RunningCmvn.
        """
        num_missing = _ENOUGH - stats[0, -1]
        if num_missing <= 0 or not (self.counts_speech and self.needs_whole_utterance):
            return stats
        return stats + global_stats * (num_missing / global_stats[0, -1])

    def input_normalizer(self, global_stats: np.ndarray) -> Normalizer:
        """What one utterance's static features go through before a model takes them, which normalizes in a fixed mode.

        `global_stats` (2, D + 1): those of the training set.
        """
        return (lambda static: static) if self.is_fixed else self.normalizer(global_stats)

    def statistics(self, static: np.ndarray) -> np.ndarray:
        """Statistics (2, D + 1) of the frames of an utterance (T, D) that count in this mode."""
        return self.statistics_of(lambda: (static,))

    def statistics_of(self, blocks: Blocks) -> np.ndarray:
        """The same of an utterance in blocks, which are asked for up to twice."""
        if not self.counts_speech:
            return sum_of(accumulate(block) for block in blocks())
        levels = SpeechLevels()
        for block in blocks():
            levels.add(self.level.steps(block))
        lowest = levels.lowest()
        # What is not finite counts, too, for its statistics to be refused.
        return sum_of(
            accumulate(block[(self.level.steps(block) >= lowest) | ~np.isfinite(block).all(axis=1)])
            for block in blocks()
        )

    def holds_speech(self, stats: np.ndarray, global_stats: np.ndarray) -> bool:
        """Whether there can be speech in an utterance of these statistics, both (2, D + 1), the second of training.

        Noise and digital silence change little from frame to frame: half of the features deviate from their means by
        less than 0.4 of what they do in the training set's speech; 0.2 where fewer than 50 frames count. Only a mode
        that counts the utterance's own speech can tell; others say yes.
        """
        if not (self.counts_speech and self.needs_whole_utterance):
            return True
        spread = np.median(_deviations(stats) / np.maximum(_deviations(global_stats), VARIANCE_FLOOR**0.5))
        return bool(spread >= (_SPREAD if stats[0, -1] >= _FEW else _SPREAD_OF_FEW))

    def floored(self, static: np.ndarray, stats: np.ndarray) -> np.ndarray:
        """Static features (T, D) whose level is at most 40 dB below the mean of `stats`; in Kaldi's modes as they are.

        Raises DataError as check_stats.
        """
        if not self.counts_speech:
            return static
        dim = static.shape[1]
        stats = check_stats(stats, dim)
        lowest = (stats[0, :dim] / stats[0, dim]).astype(np.float32) + self.below_mean(dim)
        return np.maximum(np.asarray(static, np.float32), lowest)

    def below_mean(self, dim: int) -> np.ndarray:
        """The largest allowed distance (dim,) of features of dimension `dim` below their mean."""
        return self.level.below_mean(_FLOOR_DB, dim)

    def _given(self, stats: np.ndarray | None) -> np.ndarray:
        if stats is None:
            raise ConfigError(
                f"features.cmvn: {self.name!r} without statistics; expected those of the {self.stats_owner}"
            )
        return stats


def _deviations(stats: np.ndarray) -> np.ndarray:
    """The standard deviation (D,) of each feature."""
    means, squares = stats[:, :-1] / stats[0, -1]
    return np.sqrt(np.maximum(squares - means * means, 0.0))


class SpeakerNormalization(Normalization):
    """By the statistics of all utterances of the speaker."""

    name: ClassVar[CmvnMode] = "speaker"
    stats_owner = "speaker"
    per_speaker = True
    needs_whole_utterance = True

    @property
    def without_speaker(self) -> Normalization:
        return UtteranceNormalization(self.norm_vars, self.level)


class UtteranceNormalization(Normalization):
    """By the utterance's own statistics."""

    name: ClassVar[CmvnMode] = "utterance"
    needs_whole_utterance = True

    def used_stats(self, static: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        return self.statistics(static)


class GlobalNormalization(Normalization):
    """By the statistics of the whole training set."""

    name: ClassVar[CmvnMode] = "global"
    stats_owner = "training set"
    takes_global_stats = True


class RunningNormalization(Normalization):
    """By the frames up to each frame, and at the beginning by the training set's statistics (`RunningCmvn`)."""

    name: ClassVar[CmvnMode] = "running"
    stats_owner = "training set"
    takes_global_stats = True
    is_fixed = False

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        return RunningCmvn(self._given(stats), self.norm_vars, self.level if self.counts_speech else None)


class SpeechSpeaker(SpeakerNormalization):
    """By the speech of all utterances of the speaker, filled up where that is short."""

    name = "speech_speaker"
    takes_global_stats = True
    counts_speech = True

    @property
    def without_speaker(self) -> Normalization:
        return SpeechUtterance(self.norm_vars, self.level)


class SpeechUtterance(UtteranceNormalization):
    """By the utterance's own speech, filled up with the training set's, which it is given, where that is short."""

    name = "speech_utterance"
    stats_owner = "training set"
    takes_global_stats = True
    counts_speech = True

    def used_stats(self, static: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        return self.filled(self.statistics(static), self._given(given))


class SpeechGlobal(GlobalNormalization):
    """By the speech of the whole training set."""

    name = "speech_global"
    counts_speech = True


class SpeechRunning(RunningNormalization):
    """By the speech up to each frame, and at the beginning by that of the training set (`RunningCmvn`)."""

    name = "speech_running"
    counts_speech = True


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
        SpeechSpeaker,
        SpeechUtterance,
        SpeechGlobal,
        SpeechRunning,
        NoNormalization,
    )
}
