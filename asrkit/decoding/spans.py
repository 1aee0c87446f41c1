"""From the peaks of CTC to spans that cover the sounds.

A CTC network emits a phone in a few steps somewhere within its sound, and blanks elsewhere. So its path tells which
phones there are and roughly where, but not where they begin and end. This module uses only the middle of each peak.

Between two neighbouring middles, the features belong first to one phone and then to the other. The boundary is the
maximum-likelihood change point between two segments with their own means and a common variance, which is the
least-squares split. If the model has a frame-wise head, its log-probabilities count, too. docs/alignment.md compares
this method with others.

Legend: T frames, D feature dim, U tokens, V output classes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from asrkit.decoding.forced_align import AlignedTokens, forced_align

_REACH_S = 0.3  # seconds from the middle of its peak to the end of a phone, at most; not for silence
_EDGE_S = 0.06  # seconds; between a nearer peak and the edge of the audio there is no room for another sound
_CHANGE_WEIGHT = 12.0  # nats of a frame-wise head that count as much as the features' variance in one frame


@dataclass(frozen=True, slots=True)
class Peaks:
    """The middles of the peaks of U tokens.

    Attributes:
        frames: (U,) frame numbers, strictly rising.
        tokens: (U,) token ids.
        is_silence: (U,) which of them are silence.
    """

    frames: np.ndarray
    tokens: np.ndarray
    is_silence: np.ndarray


@dataclass(frozen=True, slots=True)
class Reach:
    """Limits of phones, in frames.

    Attributes:
        far: how far a phone can reach from its peak, unless it is silence.
        edge: a peak nearer to the edge of the audio leaves no room for another sound there.
    """

    far: int
    edge: int

    @classmethod
    def in_frames(cls, shift: float) -> Reach:
        """The usual limits for frames every `shift` seconds."""
        return cls(*(max(round(seconds / shift), 1) for seconds in (_REACH_S, _EDGE_S)))


def peak_frames(log_probs: np.ndarray, aligned: AlignedTokens, num_frames: int, skip: int, middle: float) -> np.ndarray:
    """The middle of each token's peak, (U,) frames, strictly rising. It is the centre of mass of the posterior.

    The steps of the token's path count, and one more step on either side if it belongs to no other token.

    Args:
        log_probs: (T', V) log-probabilities of the steps.
        aligned: the tokens and their steps.
        num_frames: the number of frames.
        skip, middle: step k stands for frame `middle` + k * `skip`.
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
    """Find the start and the end of tokens with these peaks, (U,) frames each; see inference/phone_timer.py.

    A token other than silence reaches at most `reach.far` frames from its peak, unless it touches its neighbour there.
    It extends to the edge of the audio if its peak is less than `reach.edge` frames away.

    Args:
        feats: (T, D) features.
        peaks, reach: the peaks, and limits.
        frame_log_probs: (T, V - 1) of a frame-wise head, or None.
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
    """Split the frames `first` to `last` into two segments; return the first frame of the second one.

    Each segment has its own mean, and the sum of squared distances from these means is the smallest possible one. Of
    several such splits the earliest is taken.

    Args:
        feats: (T, D) features.
        first, last: the first and the last frame.
        ratios: (last - first + 1,) log-likelihood ratios of the first segment to the second one in each frame. They are
            added to the criterion; None for none.
    """
    segment = feats[first : last + 1].astype(np.float64)
    segment -= segment.mean(axis=0)  # now the sums of both segments differ only in their sign
    sums = np.square(np.cumsum(segment[:-1], axis=0)).mean(axis=1)
    sizes = np.arange(1, len(segment))
    gains = len(segment) * sums / (sizes * sizes[::-1])  # variance between the segments, summed over frames
    if ratios is not None:
        gains = _CHANGE_WEIGHT * gains + np.cumsum(ratios[:-1])
    return first + 1 + int(np.argmax(gains))


def align_frames(
    log_probs: np.ndarray, tokens: Sequence[int] | np.ndarray, optional: Collection[int] = (), utt_id: str = ""
) -> AlignedTokens:
    """Align tokens with the log-probabilities of a frame-wise head, by a Viterbi search without blanks.

    Spans touch and cover all frames.

    Args:
        log_probs: (T, V - 1); class p is token p + 1.
        tokens: (U,) or a sequence of token ids.
        optional, utt_id: as for forced_align.

    Raises:
        DataError: as forced_align.
    """
    # Each token has two classes, which alternate, so equal neighbours need no blank between them. Optional tokens
    # always use the first class, because the other tokens must alternate with and without them.
    ids = np.asarray(tokens, dtype=np.int64)
    required = ~np.isin(ids, list(optional))
    turn = np.where(required, np.cumsum(required) % 2, 0)
    num_frames, num_phones = log_probs.shape
    doubled = np.hstack([np.full((num_frames, 1), -np.inf, log_probs.dtype), log_probs, log_probs])
    aligned = forced_align(doubled, ids + num_phones * turn, optional=optional, utt_id=utt_id)
    return replace(aligned, tokens=ids)
