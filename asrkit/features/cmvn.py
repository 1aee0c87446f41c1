"""Cepstral mean and variance normalisation (CMVN), as Kaldi's compute-cmvn-stats, apply-cmvn and apply-cmvn-online.

Statistics are a (2, D + 1) float64 matrix. The first row has the sums of the features and the number of frames, the
second row has the sums of squares and 0. The statistics of a speaker are the sum over the speaker's utterances.

`NORMALIZATIONS` maps the names of the modes to their classes. Kaldi's modes count all frames. A pause then moves the
mean and increases the variance. The modes "speech_..." count only frames with speech (speech_frames.py), and raise
frames that are quieter than a quiet room to that level. If few frames count, statistics of the training set are added:
the mean of a word with one vowel would be that vowel.

Shapes: T frames, D static features.
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
Normalizer = Callable[[np.ndarray], np.ndarray]  # static features (T, D) -> (T, D) float32
Blocks = Callable[[], Iterable[np.ndarray]]  # the static features of an utterance, in blocks (t, D)

VARIANCE_FLOOR = 1e-20
_MAX_MEAN = 1e30  # of features and their squares, so that they fit into float32
_RUNNING_WINDOW, _RUNNING_PRIOR = 600, 200  # frames; Kaldi's defaults
_C0 = LevelScale()
_SPREAD, _SPREAD_OF_FEW, _FEW = 0.4, 0.2, 50  # shares of the training set's deviations; number of frames
_ENOUGH = 100  # number of frames for reliable statistics of a voice; the training set replaces missing ones
_FLOOR_DB = 40  # dB below the mean level of speech: the level of a quiet room; digital silence is raised to it


def accumulate(feats: np.ndarray) -> np.ndarray:
    """The statistics (2, D + 1) float64 of `feats` (T, D), as Kaldi's compute-cmvn-stats."""
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
    """The sum (2, D + 1) of several `stats`, each (2, D + 1)."""
    return sum(stats, start=np.zeros(()))


def apply_cmvn(feats: np.ndarray, stats: np.ndarray, norm_vars: bool = True) -> np.ndarray:
    """Normalise `feats` (T, D) to (T, D) float32, as Kaldi's apply-cmvn.

    The mean in `stats` (2, D + 1) is subtracted. With `norm_vars` the result is divided by the standard deviation.

    Raises DataError as `check_stats`.
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
    """CMVN during an utterance: each frame is normalised by the frames before it. Make one object per utterance.

    Source: Kaldi's OnlineCmvn. The statistics of a frame are those of the last 600 frames, including the frame itself.
    If there are fewer, the statistics `global_stats` (2, D + 1) of the training set are added. Their weight is the
    number of missing frames, at most 200. With `speech`, which gives the levels of frames, the last 600 frames with
    speech count, and levels have a floor. Frames may come in pieces of any size; the results are exactly the same.

    Raises DataError as `check_stats`.
    """

    def __init__(self, global_stats: np.ndarray, norm_vars: bool = True, speech: LevelScale | None = None) -> None:
        dim = global_stats.shape[1] - 1
        self._stats = check_stats(global_stats, dim)
        self._prior = (self._stats[:, :dim] / self._stats[0, dim]).ravel()
        self._norm_vars = norm_vars
        self._speech, self._is_speech = speech, SpeechStream()
        self._sums = np.zeros((1, 2 * dim))  # cumulative sums of values and squares at the last frames that count
        self._num_counted = 0

    def __call__(self, feats: np.ndarray) -> np.ndarray:
        """Normalise the next frames `feats` (t, D) to (t, D) float32."""
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
    """The statistics `stats` (2, dim + 1) as a contiguous float64 array.

    Raises DataError if they have another shape, fewer than one frame, or values that are not finite or too large.
    """
    if stats.shape != (2, dim + 1):
        raise DataError(
            f"CMVN statistics of shape {stats.shape}; expected (2, {dim + 1}) for {dim}-dimensional features"
        )
    count = stats[0, dim]
    largest = np.abs(stats[:, :dim]).max(initial=0.0)
    if not (count >= 1.0 and np.isfinite(stats).all() and largest <= _MAX_MEAN * count):
        raise DataError(
            f"CMVN statistics of {count:g} frames, sums up to {largest:g}; expected one frame or more and finite sums, "
            f"up to {_MAX_MEAN:g} per frame"
        )
    return np.require(stats, np.float64, ("C", "A"))


@dataclass(frozen=True)
class Normalization:
    """A mode of CMVN: it decides by which statistics a frame is normalised. The base class of all modes.

    `norm_vars`: whether the variance is normalised, too. `level`: how to compute the level of a frame from its
    features. Attributes of the modes:

        name: the name of the mode in the settings.
        stats_owner: the owner of the statistics that the mode is given, for messages; empty if it is given none.
        per_speaker: the given statistics are those of the speaker.
        takes_global_stats: the mode needs the statistics of the training set, as the given ones or to complete them.
        needs_whole_utterance: the statistics are known only at the end of the audio. So the mode cannot be used in
            streams.
        is_fixed: all frames of an utterance have the same mean and variance. So a network can normalise within its
            graph, with statistics as an input. In other modes the input of a model is already normalised.
        centers: the mean of normalised features is about 0.
        counts_speech: only frames with speech count, and levels have a floor.
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
        """Whether the mode does no more than shift and scale all frames of an utterance equally."""
        return not self.counts_speech and (self.is_fixed or not self.centers)

    @property
    def without_speaker(self) -> Normalization:
        """The mode to use for audio whose speaker is unknown."""
        return self

    @property
    def with_given_stats(self) -> Normalization:
        """The mode within a model: by given statistics in a fixed mode, none in the others (normalised before)."""
        if not self.is_fixed:
            return NoNormalization(self.norm_vars, self.level)
        return (SpeechGlobal if self.counts_speech else GlobalNormalization)(self.norm_vars, self.level)

    def needed_stats(self, stats: np.ndarray | None) -> np.ndarray | None:
        """`stats` (2, D + 1) if the mode uses given statistics, otherwise None.

        Raises ConfigError if the mode needs them and they are None.
        """
        return self._given(stats) if self.stats_owner else None

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        """A function that normalises the static features of one utterance. In a mode for streams, it accepts pieces.

        `stats` (2, D + 1) are the given statistics; see `needed_stats`.

        Raises:
            ConfigError: as `needed_stats`.
            DataError: as `check_stats`; the returned function may raise it, too.
        """
        given = self.needed_stats(stats)

        def normalize(feats: np.ndarray) -> np.ndarray:
            used = self.used_stats(feats, given)
            return apply_cmvn(self.floored(feats, used), used, self.norm_vars)

        return normalize

    def used_stats(self, static: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        """The statistics (2, D + 1) that normalise the features `static` (T, D) of an utterance.

        `given` (2, D + 1) are the statistics that the mode is given. Raises ConfigError as `needed_stats`.
        """
        return self._given(given)

    def filled(self, stats: np.ndarray, global_stats: np.ndarray) -> np.ndarray:
        """Complete the statistics `stats` (2, D + 1) of an utterance or a speaker to 100 frames: (2, D + 1).

        The statistics `global_stats` (2, D + 1) of the training set are added with the weight of the missing frames, as
        in `RunningCmvn`. In Kaldi's modes `stats` are returned unchanged.
        """
        num_missing = _ENOUGH - stats[0, -1]
        if num_missing <= 0 or not (self.counts_speech and self.needs_whole_utterance):
            return stats
        return stats + global_stats * (num_missing / global_stats[0, -1])

    def input_normalizer(self, global_stats: np.ndarray) -> Normalizer:
        """The normaliser of an utterance before the model; in a fixed mode none, as the model itself normalises.

        `global_stats` (2, D + 1) are the statistics of the training set.
        """
        return (lambda static: static) if self.is_fixed else self.normalizer(global_stats)

    def statistics(self, static: np.ndarray) -> np.ndarray:
        """The statistics (2, D + 1) of the frames of `static` (T, D), one utterance, that count in this mode."""
        return self.statistics_of(lambda: (static,))

    def statistics_of(self, blocks: Blocks) -> np.ndarray:
        """Like `statistics`, (2, D + 1), for an utterance in blocks (t, D). `blocks` is called up to twice."""
        if not self.counts_speech:
            return sum_of(accumulate(block) for block in blocks())
        levels = SpeechLevels()
        for block in blocks():
            levels.add(self.level.steps(block))
        lowest = levels.lowest()
        # Frames that are not finite count, too, so that the statistics are refused.
        return sum_of(
            accumulate(block[(self.level.steps(block) >= lowest) | ~np.isfinite(block).all(axis=1)])
            for block in blocks()
        )

    def holds_speech(self, stats: np.ndarray, global_stats: np.ndarray) -> bool:
        """Whether an utterance with the statistics `stats` (2, D + 1) can contain speech.

        `global_stats` (2, D + 1) are the statistics of the training set. Noise and digital silence change little from
        frame to frame. So the standard deviation of each feature is divided by that of the training set. There is no
        speech if the median of these ratios is less than 0.4 (less than 0.2 if fewer than 50 frames count). Only a mode
        that counts the speech of the utterance can decide this; the other modes return True.
        """
        if not (self.counts_speech and self.needs_whole_utterance):
            return True
        spread = np.median(_deviations(stats) / np.maximum(_deviations(global_stats), VARIANCE_FLOOR**0.5))
        return bool(spread >= (_SPREAD if stats[0, -1] >= _FEW else _SPREAD_OF_FEW))

    def floored(self, static: np.ndarray, stats: np.ndarray) -> np.ndarray:
        """Raise quiet frames of `static` (T, D) to a level 40 dB below the mean in `stats` (2, D + 1): (T, D).

        In Kaldi's modes `static` is returned unchanged. Raises DataError as `check_stats`.
        """
        if not self.counts_speech:
            return static
        dim = static.shape[1]
        stats = check_stats(stats, dim)
        lowest = (stats[0, :dim] / stats[0, dim]).astype(np.float32) + self.below_mean(dim)
        return np.maximum(np.asarray(static, np.float32), lowest)

    def below_mean(self, dim: int) -> np.ndarray:
        """The largest allowed distance (dim,) float32 of each feature below its mean; negative numbers."""
        return self.level.below_mean(_FLOOR_DB, dim)

    def _given(self, stats: np.ndarray | None) -> np.ndarray:
        if stats is None:
            raise ConfigError(
                f"features.cmvn: {self.name!r} without statistics; expected those of the {self.stats_owner}"
            )
        return stats


def _deviations(stats: np.ndarray) -> np.ndarray:
    """The standard deviations (D,) of the features."""
    means, squares = stats[:, :-1] / stats[0, -1]
    return np.sqrt(np.maximum(squares - means * means, 0.0))


class SpeakerNormalization(Normalization):
    """Normalises by the statistics of all utterances of the speaker."""

    name: ClassVar[CmvnMode] = "speaker"
    stats_owner = "speaker"
    per_speaker = True
    needs_whole_utterance = True

    @property
    def without_speaker(self) -> Normalization:
        return UtteranceNormalization(self.norm_vars, self.level)


class UtteranceNormalization(Normalization):
    """Normalises by the statistics of the utterance itself."""

    name: ClassVar[CmvnMode] = "utterance"
    needs_whole_utterance = True

    def used_stats(self, static: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        return self.statistics(static)


class GlobalNormalization(Normalization):
    """Normalises by the statistics of the whole training set."""

    name: ClassVar[CmvnMode] = "global"
    stats_owner = "training set"
    takes_global_stats = True


class RunningNormalization(Normalization):
    """Normalises each frame by the frames before it, at the beginning also by the training set (`RunningCmvn`)."""

    name: ClassVar[CmvnMode] = "running"
    stats_owner = "training set"
    takes_global_stats = True
    is_fixed = False

    def normalizer(self, stats: np.ndarray | None) -> Normalizer:
        return RunningCmvn(self._given(stats), self.norm_vars, self.level if self.counts_speech else None)


class SpeechSpeaker(SpeakerNormalization):
    """Normalises by the speech of all utterances of the speaker, completed by the training set if short."""

    name = "speech_speaker"
    takes_global_stats = True
    counts_speech = True

    @property
    def without_speaker(self) -> Normalization:
        return SpeechUtterance(self.norm_vars, self.level)


class SpeechUtterance(UtteranceNormalization):
    """Normalises by the speech of the utterance itself, completed by the training set (given) if short."""

    name = "speech_utterance"
    stats_owner = "training set"
    takes_global_stats = True
    counts_speech = True

    def used_stats(self, static: np.ndarray, given: np.ndarray | None) -> np.ndarray:
        return self.filled(self.statistics(static), self._given(given))


class SpeechGlobal(GlobalNormalization):
    """Normalises by the speech of the whole training set."""

    name = "speech_global"
    counts_speech = True


class SpeechRunning(RunningNormalization):
    """Normalises each frame by the speech before it, at the beginning also by that of the training set."""

    name = "speech_running"
    counts_speech = True


class NoNormalization(Normalization):
    """Leaves features unchanged."""

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
