"""CTC in a search that goes phone by phone: the probability that the labelling begins with a prefix.

Source: Watanabe et al. 2017, "Hybrid CTC/attention architecture", and Hori et al. 2017, who use it in one pass. For
each frame t, a prefix has the probability of all paths over the first t frames that spell it. These paths end in its
last phone or in a blank. The probabilities follow from those of the prefix without its last phone, by cumulative sums
over time. The compiled kernel `_ctc_prefix` sums frame by frame; the NumPy code here is its reference.

Legend: N utterances, K prefixes per utterance, T frames, V classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asrkit._native import kernel

NEVER = -1e30  # stands for log 0; being finite, it can be subtracted
_LEAST = -1e4  # nats; lower log-probabilities are raised to this
_PADDED = 8  # the kernel sums probabilities of so many classes at once


@dataclass(frozen=True)
class CtcPrefixes:
    """The prefixes of a search. Sums over paths are natural logs, float64, for frames 0 (before the first) to T.

    Attributes:
        frames: the log-probabilities.
        in_blank: (N, K, T + 1) paths that end in a blank.
        in_any: (N, K, T + 1) all paths: those that end in a blank or in the last phone.
        last: (N, K) last phones, 0 before the first.
    """

    frames: CtcFrames
    in_blank: np.ndarray
    in_any: np.ndarray
    last: np.ndarray

    def next_scores(self) -> np.ndarray:
        """Log probability that the labelling begins with the prefix and one more phone, (N, K, V).

        Class 0 gets NEVER.
        """
        frames = self.frames
        if (module := kernel("_ctc_prefix")) is not None:
            scores = np.empty((*self.last.shape, frames.log_probs.shape[2]))
            module.next_scores(frames.log_probs, frames.probs, self.in_blank, self.in_any, self.last, scores)
            return scores
        scores = _log_matmul(self.in_any[:, :, :-1], frames.probs[:, :, : frames.log_probs.shape[2]])
        # A phone follows itself only after a blank.
        paths = self.in_blank[:, :, :-1] + frames.of(self.last)
        largest = paths.max(axis=2, keepdims=True)
        repeated = np.log(np.exp(paths - largest).sum(axis=2, keepdims=True)) + largest
        np.put_along_axis(scores, self.last[:, :, None], repeated, axis=2)
        scores[:, :, 0] = NEVER
        return np.maximum(scores, NEVER)

    def end_scores(self) -> np.ndarray:
        """Log probability that the prefix is the whole labelling, (N, K)."""
        ends: np.ndarray = self.in_any[:, :, -1]
        return ends

    def extend(self, parents: np.ndarray, tokens: np.ndarray) -> CtcPrefixes:
        """Extend prefixes by one phone.

        Args:
            parents: (N, K') numbers of prefixes within each utterance.
            tokens: (N, K') the phone that follows each of them.
        """
        if (module := kernel("_ctc_prefix")) is not None:
            in_blank, in_any = (np.empty((*parents.shape, self.in_any.shape[2])) for _ in range(2))
            old = self.in_blank, self.in_any, self.last
            parents, tokens = np.ascontiguousarray(parents), np.ascontiguousarray(tokens)
            module.extend(self.frames.log_probs, *old, parents, tokens, in_blank, in_any)
            return CtcPrefixes(self.frames, in_blank, in_any, tokens)
        rows = np.arange(len(parents))[:, None]
        is_again = (tokens == self.last[rows, parents])[:, :, None]
        before = np.where(is_again, self.in_blank[rows, parents], self.in_any[rows, parents])
        in_phone = _follow(before, self.frames.of(tokens))
        in_blank = _follow(in_phone, self.frames.log_probs[:, None, :, 0])
        return CtcPrefixes(self.frames, in_blank, np.logaddexp(in_phone, in_blank), tokens)

    def keep(self, utts: np.ndarray) -> CtcPrefixes:
        """The prefixes of the utterances `utts`, (n,) numbers or (N,) bool."""
        return CtcPrefixes(self.frames.keep(utts), self.in_blank[utts], self.in_any[utts], self.last[utts])


@dataclass(frozen=True)
class CtcFrames:
    """The log-probabilities of CTC for some utterances.

    Attributes:
        log_probs: (N, T, V) natural logs, float64.
        probs: (N, T, P) probabilities, then zeros from class V on. P is a multiple of 8.
    """

    log_probs: np.ndarray
    probs: np.ndarray

    @classmethod
    def of_batch(cls, log_probs: np.ndarray, lens: np.ndarray) -> CtcFrames:
        """Prepare `log_probs` (N, T, V) with lengths `lens` (N,). Padding becomes blanks, which change no labelling."""
        log_probs = np.maximum(log_probs.astype(np.float64), _LEAST)
        padding = np.arange(log_probs.shape[1]) >= lens[:, None]
        log_probs[padding] = _LEAST
        log_probs[padding, 0] = 0.0
        num_utts, num_frames, num_classes = log_probs.shape
        probs = np.zeros((num_utts, num_frames, -(-num_classes // _PADDED) * _PADDED))
        np.exp(log_probs, out=probs[:, :, :num_classes])
        return cls(log_probs, probs)

    def keep(self, utts: np.ndarray) -> CtcFrames:
        """The frames of the utterances `utts`, (n,) numbers or (N,) bool."""
        return CtcFrames(self.log_probs[utts], self.probs[utts])

    def empty_prefix(self) -> CtcPrefixes:
        """The empty prefix of each utterance."""
        in_blank = np.pad(self.log_probs[:, None, :, 0].cumsum(axis=2), [(0, 0), (0, 0), (1, 0)])
        return CtcPrefixes(self, in_blank, in_blank, np.zeros((len(in_blank), 1), np.int64))

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """Log probabilities of `tokens` (N, K) in all frames: (N, K, T)."""
        found: np.ndarray = self.log_probs[np.arange(len(tokens))[:, None], :, tokens]
        return found


def _follow(before: np.ndarray, log_probs: np.ndarray) -> np.ndarray:
    """r_t = (r_{t-1} + before_{t-1}) p_t with r_0 = 0, in logs. `before` is (N, K, T + 1), p (N, 1 or K, T)."""
    sums = np.pad(log_probs.cumsum(axis=2), [(0, 0), (0, 0), (1, 0)])
    found = np.full_like(before, NEVER)
    found[:, :, 1:] = np.logaddexp.accumulate((before - sums)[:, :, :-1], axis=2) + sums[:, :, 1:]
    return np.maximum(found, NEVER)


def _log_matmul(logs: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """log(exp(`logs`) @ `probs`): (N, K, T) and (N, T, V) to (N, K, V)."""
    largest = logs.max(axis=2, keepdims=True)
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.log(np.exp(logs - largest) @ probs) + largest
    return found
