"""From CTC's peaks to spans that cover the sounds.

A CTC network emits a phone in a few steps somewhere within its sound and blanks in the rest, so its path tells which
phones there are and about where, not where they begin and end. So only the middle of each peak is taken from the path.
Between two neighbouring middles the features belong first to the one phone and then to the other; the boundary is the
maximum-likelihood change point of two segments with means of their own and one variance, that is the least-squares
split. A frame-wise head, where the model has one, has a say in it. docs/alignment.md compares this with other ways.

Legend: T frames, D feature dim, U tokens, V output classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from asrkit.decoding.forced_align import AlignedTokens, forced_align

_REACH_S = 0.3  # how far from the middle of its peak a phone other than silence may reach
_EDGE_S = 0.06  # a peak so near to the audio's edge leaves no room for anything else there
_CHANGE_WEIGHT = 12.0  # nats of a frame-wise head that weigh as much as the features' variance in one frame


@dataclass(frozen=True, slots=True)
class Peaks:
    """The middles of U tokens: `frames` (U,), rising; `tokens` (U,) their ids; `is_silence` (U,)."""

    frames: np.ndarray
    tokens: np.ndarray
    is_silence: np.ndarray


@dataclass(frozen=True, slots=True)
class Reach:
    """In frames: how `far` from its peak a phone other than silence may reach; how near to the `edge` its peak may be
    without leaving room for anything else there.
    """

    far: int
    edge: int

    @classmethod
    def in_frames(cls, shift: float) -> Reach:
        """The usual reach, of frames every `shift` seconds."""
        return cls(*(max(round(seconds / shift), 1) for seconds in (_REACH_S, _EDGE_S)))


def peak_frames(log_probs: np.ndarray, aligned: AlignedTokens, num_frames: int, skip: int, middle: float) -> np.ndarray:
    """The middle of each token's peak, (U,) frames, each after the one before: its posterior's centre of mass.

    Steps of its path count, and one more on either side that is no other token's.
    """
    num_tokens = len(aligned.tokens)
    firsts = np.maximum(aligned.starts - 1, np.append(0, aligned.ends[:-1]))
    lasts = np.minimum(aligned.ends + 1, np.append(aligned.starts[1:], len(log_probs)))
    centers = np.empty(num_tokens)
    for u, (token, first, last) in enumerate(zip(aligned.tokens, firsts, lasts, strict=True)):
        scores = log_probs[first:last, token].astype(np.float64)
        weights = np.exp(scores - scores.max())
        centers[u] = first + weights @ np.arange(last - first) / weights.sum()
    order = np.arange(num_tokens)
    frames = np.rint(middle + skip * centers).astype(np.int64)
    rising = np.maximum.accumulate(np.maximum(frames - order, 0)) + order
    return np.minimum(rising, num_frames - num_tokens + order)


def split_between(
    feats: np.ndarray, peaks: Peaks, reach: Reach, frame_log_probs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends (U,) in frames of tokens with these peaks; see inference/phone_timer.py.

    A token other than silence reaches at most `reach.far` frames from its peak where that is not next to another
    token's reach, and up to the audio's edge when its peak is less than `reach.edge` frames away.
    """
    num_frames, num_tokens = len(feats), len(peaks.frames)
    starts, ends = np.zeros(num_tokens, np.int64), np.full(num_tokens, num_frames, np.int64)
    if num_tokens == 0:
        return starts, ends
    frames, is_silence = peaks.frames.tolist(), peaks.is_silence
    first, last = frames[0], frames[-1]
    if not is_silence[0] and first >= reach.edge:
        starts[0] = change_point(feats, max(first - reach.far, 0), first)
    if not is_silence[-1] and num_frames - 1 - last >= reach.edge:
        ends[-1] = change_point(feats, last, min(last + reach.far, num_frames - 1))
    for u, (left, right) in enumerate(pairwise(frames)):
        if is_silence[u] or is_silence[u + 1] or right - left <= 2 * reach.far:
            ratios = None
            if frame_log_probs is not None:
                between = frame_log_probs[left : right + 1]
                ratios = between[:, peaks.tokens[u] - 1] - between[:, peaks.tokens[u + 1] - 1]
            ends[u] = starts[u + 1] = change_point(feats, left, right, ratios)
        else:
            ends[u] = change_point(feats, left, left + reach.far)
            starts[u + 1] = change_point(feats, right - reach.far, right)
    return starts, ends


def change_point(feats: np.ndarray, first: int, last: int, ratios: np.ndarray | None = None) -> int:
    """The frame from `first` + 1 to `last` that begins the second of two segments, which together are first to last.

    Each segment has its own mean, and the sum of squared distances from them is least; the earliest if several are.
    `ratios` (last - first + 1,), where given, are added to what is maximised then: log-likelihood ratios of each frame
    for being of the first segment rather than of the second.
    """
    segment = feats[first : last + 1].astype(np.float64)
    segment -= segment.mean(axis=0)  # so that both sums of a split are equal but for the sign
    sums = np.square(np.cumsum(segment[:-1], axis=0)).mean(axis=1)
    sizes = np.arange(1, len(segment))
    gains = len(segment) * sums / (sizes * sizes[::-1])  # of variance between segments, summed over frames
    if ratios is not None:
        gains = _CHANGE_WEIGHT * gains + np.cumsum(ratios[:-1])
    return first + 1 + int(np.argmax(gains))


def align_frames(
    log_probs: np.ndarray, tokens: Sequence[int] | np.ndarray, optional: Collection[int] = (), utt_id: str = ""
) -> AlignedTokens:
    """Spans of tokens by the log-probabilities (T, V - 1) of a frame-wise head: Viterbi without blanks.

    Class p is token p + 1. Arguments and errors else are forced_align's. Spans touch and cover all frames.
    """
    # Each token has two classes, which take turns, so that equal neighbours need no blank between them. Optional
    # tokens take the first: other tokens must take turns whether they are there or not.
    ids = np.asarray(tokens, dtype=np.int64)
    required = ~np.isin(ids, list(optional))
    turn = np.where(required, np.cumsum(required) % 2, 0)
    num_frames, num_phones = log_probs.shape
    doubled = np.hstack([np.full((num_frames, 1), -np.inf, log_probs.dtype), log_probs, log_probs])
    aligned = forced_align(doubled, ids + num_phones * turn, optional=optional, utt_id=utt_id)
    return replace(aligned, tokens=ids)
