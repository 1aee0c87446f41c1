"""CTC forced alignment: the most probable path of a known labelling, found by Viterbi over its blanks and tokens.

Tokens can be optional, such as silence between words.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from asrkit._native import kernel
from asrkit.errors import DataError

_MAX_OPTIONAL_RUN = 62  # because a step is stored in a byte
_MAX_CELLS = 2**30  # frames times tokens, the bytes that the way back takes
_MAX_LOG_PROB = 1e30  # prevents overflow of sums


@dataclass(frozen=True, slots=True)
class AlignedTokens:
    """The place of each of U tokens on the best path. Frames that belong to no token are blank.

    An optional token that the path leaves out has start = end = the end of the token before it (0 for the first), and
    NaN in `log_probs`.

    Attributes:
        tokens: (U,) ids.
        starts, ends: (U,) the first frame, and the frame after the last.
        log_probs: (U,) mean natural-log probability of the token in its frames.
        score: natural-log probability of the whole path.
    """

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    log_probs: np.ndarray
    score: float

    def without_passed_over(self) -> AlignedTokens:
        """Only the tokens on the path."""
        kept = self.starts < self.ends
        return AlignedTokens(self.tokens[kept], self.starts[kept], self.ends[kept], self.log_probs[kept], self.score)


def forced_align(
    log_probs: np.ndarray,
    tokens: Sequence[int] | np.ndarray,
    *,
    optional: Collection[int] = (),
    utt_id: str = "",
) -> AlignedTokens:
    """Align `tokens` with the frames.

    Ties are decided from the last frame backwards. The path prefers an end in the last token over an end in a blank,
    then staying in a token or blank over coming from the one before it, and then leaving out fewer optional tokens.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank.
        tokens: (U,) ids from 1 to V - 1.
        optional: token ids that the path may leave out wherever they stand; at most 62 in a row.
        utt_id: for error messages.

    Raises:
        DataError: too few frames (CTC needs one per token and one between equal neighbours), an id outside the classes,
            NaN in log_probs, or no path with a probability above 0.
    """
    log_probs, ids = _checked_frames(log_probs, utt_id), _checked_ids(tokens, utt_id)
    is_optional = _checked_sizes(log_probs, ids, optional, utt_id)
    native = kernel("_align")
    viterbi = _viterbi if native is None else native.viterbi
    spans, sums = np.empty((2, len(ids)), np.int64), np.empty(len(ids))
    score = viterbi(log_probs, ids, is_optional, spans, sums)
    if math.isnan(score):
        raise DataError(_message(utt_id, "log_probs hold NaN or infinity"))
    if score == -math.inf:
        required = ids[is_optional == 0]
        needed = num_needed(required)
        fault = "no path has a probability above 0"
        if len(log_probs) < needed:
            fault = f"{len(required)} tokens need at least {needed} frames; there are {len(log_probs)}"
        raise DataError(_message(utt_id, fault))
    starts, ends = spans
    if len(optional):
        passed_over = ends < 0
        ends = np.maximum.accumulate(np.maximum(ends, 0))
        starts[passed_over] = ends[passed_over]
        sums[passed_over] = np.nan
        return AlignedTokens(ids, starts, ends, sums / np.where(passed_over, 1, ends - starts), score)
    return AlignedTokens(ids, starts, ends, sums / (ends - starts), score)


def num_needed(tokens: Sequence[int] | np.ndarray) -> int:
    """The smallest number of frames for `tokens` (U,): one for each token, and one between equal neighbours."""
    ids = np.asarray(tokens)
    return len(ids) + int(np.count_nonzero(ids[1:] == ids[:-1]))


def _viterbi(
    log_probs: np.ndarray, tokens: np.ndarray, optional: np.ndarray, spans: np.ndarray, sums: np.ndarray
) -> float:
    """The score of the best path: -inf if there is none, NaN if log_probs hold NaN or infinity. The kernel's reference.

    `log_probs` is (T, V) float32 or float64, `tokens` (U,) int64, `optional` (U,) uint8. The function fills `spans` (2,
    U) int64 with the first frame of each token and the frame after its last; -1 for tokens left out. It fills `sums`
    (U,) float64 with the log probability of each token's frames.
    """
    if not log_probs.max(initial=-np.inf) < _MAX_LOG_PROB:  # NaN too
        return math.nan

    # State 2u is the blank before token u, state 2u + 1 is token u. `allowed[j]` is 0 where a path may come from j
    # states back, else -inf. A path may come to any state from the state itself and from the one before it. It may come
    # to a token from the token before it, unless they are equal. If the n tokens before it are optional, it may also
    # come from the states before those.
    num_tokens = len(tokens)
    max_run = run = 0
    for flag in optional[:-1]:
        run = run + 1 if flag else 0
        max_run = max(max_run, run)
    classes = np.zeros(2 * num_tokens + 1, dtype=np.int64)
    classes[1::2] = tokens
    allowed = np.full((2 * max_run + 3, len(classes)), -np.inf)
    allowed[:2] = 0.0
    for u in range(num_tokens):
        for n in range(min(max_run, u) + 1):
            if not optional[u - n : u].all():
                break
            allowed[2 * n + 1, 2 * u + 1] = 0.0
            if n < u and tokens[u - n - 1] != tokens[u]:
                allowed[2 * n + 2, 2 * u + 1] = 0.0

    # Leading columns of -inf stand before the first state. A path starts in the first blank, one frame before the first
    # frame. So in frame 0 it can be there or in the first token.
    jumps = np.arange(len(allowed))[:, None]
    padded = np.full(len(jumps) - 1 + len(classes), -np.inf)
    best = padded[len(jumps) - 1 :]
    sources = len(jumps) - 1 + np.arange(len(classes)) - jumps
    best[0] = 0.0
    steps = np.zeros((len(log_probs), len(classes)), dtype=np.uint8)
    for t, frame in enumerate(log_probs):
        arrivals = padded[sources] + allowed
        steps[t] = arrivals.argmax(axis=0)
        best[:] = arrivals.max(axis=0) + frame[classes]

    finals = []
    for end in range(num_tokens, -1, -1):  # the tokens from `end` on are left out
        finals += [2 * end - 1, 2 * end] if end else [0]
        if end and not optional[end - 1]:
            break
    last = max(finals, key=lambda final: best[final])
    score = float(best[last])
    spans[:] = -1
    sums[:] = 0.0
    if score > -np.inf:
        _trace(log_probs[:, classes], steps, last, spans, sums)
    return score


def _trace(emitted: np.ndarray, steps: np.ndarray, last: int, spans: np.ndarray, sums: np.ndarray) -> None:
    """Follow the best path back from its `last` state, and fill `spans` and `sums`.

    `emitted` (T, S) is the log probability of each state's class in each frame. `steps` (T, S) is the number of states
    by which each state's best path came forward.
    """
    starts, ends = spans
    state = last
    for t in range(len(emitted) - 1, -1, -1):
        if state % 2:
            starts[state // 2] = t
            ends[state // 2] = max(ends[state // 2], t + 1)
            sums[state // 2] += emitted[t, state]
        state -= int(steps[t, state])


def _checked_frames(log_probs: np.ndarray, utt_id: str) -> np.ndarray:
    """log_probs (T, V) in the kernel's form: float32 or float64, contiguous."""
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.dtype.kind not in "fiu" or log_probs.shape[1] == 0:
        fault = f"log_probs are {log_probs.dtype} of shape {log_probs.shape}; expected numbers, (frames, classes)"
        raise DataError(_message(utt_id, fault))
    dtype = np.float32 if log_probs.dtype == np.float32 else np.float64
    return np.require(log_probs, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def _checked_ids(tokens: Sequence[int] | np.ndarray, utt_id: str) -> np.ndarray:
    """`tokens` as (U,) int64."""
    ids = np.asarray(tokens)
    if ids.size == 0:
        ids = np.zeros(0, dtype=np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise DataError(_message(utt_id, f"tokens are {ids.dtype} of shape {ids.shape}; expected a sequence of ids"))
    return ids.astype(np.int64)


def _checked_sizes(log_probs: np.ndarray, ids: np.ndarray, optional: Collection[int], utt_id: str) -> np.ndarray:
    """(U,) uint8: which tokens are optional. Raises DataError for ids and sizes that cannot be aligned."""
    num_frames, num_classes = log_probs.shape
    if len(ids) and not (ids.min() >= 1 and ids.max() < num_classes):
        raise DataError(_message(utt_id, f"token ids {ids.min()} to {ids.max()}; expected 1 to {num_classes - 1}"))
    is_optional = np.zeros(len(ids), dtype=np.uint8)
    if len(optional):
        is_optional[:] = np.isin(ids, list(optional))
        ends_of_runs = np.flatnonzero(np.diff(is_optional, prepend=0, append=0))
        longest = np.diff(ends_of_runs)[::2].max(initial=0)
        if longest > _MAX_OPTIONAL_RUN:
            fault = f"{longest} optional tokens in a row; expected {_MAX_OPTIONAL_RUN} at most"
            raise DataError(_message(utt_id, fault))
    if num_frames * len(ids) > _MAX_CELLS:
        fault = f"{num_frames} frames times {len(ids)} tokens; expected {_MAX_CELLS} at most; align shorter pieces"
        raise DataError(_message(utt_id, fault))
    return is_optional


def _message(utt_id: str, fault: str) -> str:
    return f"{utt_id}: alignment: {fault}" if utt_id else f"alignment: {fault}"
