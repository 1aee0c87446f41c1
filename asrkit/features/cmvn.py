"""Cepstral mean and variance normalisation: Kaldi's compute-cmvn-stats, apply-cmvn and apply-cmvn-online.

Statistics are a (2, D + 1) float64 matrix: sums and number of frames; sums of squares and 0. Those of a speaker are
the sum of those of the speaker's utterances.
"""

from __future__ import annotations

import numpy as np

from asrkit._native import kernel
from asrkit.errors import DataError

_VARIANCE_FLOOR = 1e-20
RUNNING_WINDOW, _RUNNING_PRIOR = 600, 200  # frames; Kaldi's defaults


def accumulate(feats: np.ndarray) -> np.ndarray:
    """Statistics (2, D + 1) float64 of `feats` (T, D)."""
    num_frames, dim = feats.shape
    stats = np.zeros((2, dim + 1))
    native = kernel("_mfcc")
    if native is not None and feats.dtype == np.float32:
        native.accumulate(np.require(feats, None, "CA"), stats)
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
        native.finish(np.require(feats, np.float32, "CA"), stats, norm_vars, 0, 1, out)
        return out
    dim = feats.shape[1]
    mean = stats[0, :dim] / stats[0, dim]
    normalised = np.asarray(feats, np.float32) - mean.astype(np.float32)
    if norm_vars:
        variance = np.maximum(stats[1, :dim] / stats[0, dim] - mean * mean, _VARIANCE_FLOOR)
        normalised *= (1.0 / np.sqrt(variance)).astype(np.float32)
    return normalised


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
        """The next frames (t, D) normalised, (t, D) float32."""
        check_stats(self._stats, feats.shape[1])
        values = np.asarray(feats, np.float64)
        sums = np.concatenate([self._sums[-1:], np.concatenate([values, values * values], axis=1)]).cumsum(axis=0)
        self._sums = sums = np.concatenate([self._sums[:-1], sums])
        last = np.arange(len(sums) - len(values), len(sums))
        counts = np.minimum(self._num_frames + 1 + np.arange(len(values)), RUNNING_WINDOW)[:, None]
        self._num_frames += len(values)
        prior = np.minimum(RUNNING_WINDOW - counts, _RUNNING_PRIOR)
        window = sums[last] - sums[np.maximum(last - RUNNING_WINDOW, 0)] + prior * self._prior
        means = window / (counts + prior)
        mean, squares = means[:, : feats.shape[1]], means[:, feats.shape[1] :]
        self._sums = sums[-RUNNING_WINDOW - 1 :]
        normalised = values - mean
        if self._norm_vars:
            normalised /= np.sqrt(np.maximum(squares - mean * mean, _VARIANCE_FLOOR))
        return normalised.astype(np.float32)


def check_stats(stats: np.ndarray, dim: int) -> np.ndarray:
    """`stats` as contiguous float64. Raises DataError where they cannot normalise features of dimension `dim`."""
    if stats.shape != (2, dim + 1):
        raise DataError(
            f"CMVN statistics of shape {stats.shape}; expected (2, {dim + 1}) for {dim}-dimensional features"
        )
    count = stats[0, dim]
    if not (count >= 1.0 and np.isfinite(stats).all()):
        raise DataError(f"CMVN statistics of {count:g} frames; expected one frame or more and finite sums")
    return np.require(stats, np.float64, "CA")
