"""CTC's part in a search that goes phone by phone: the probability that the labelling begins with a prefix.

Watanabe et al. 2017, "Hybrid CTC/attention architecture", and Hori et al. 2017, who use it in one pass. For each frame
t a prefix has the probability of all paths over the first t frames that spell it, ending in its last phone or in a
blank. They follow from those of the prefix one phone shorter by sums over time, which are cumulative ones here.

Legend: N utterances, K prefixes of each, T frames, V classes, 0 the blank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEVER = -1e30  # the log of 0: a number, so that differences of two are numbers
_LEAST = -1e4  # nats: classes that are less likely count as this


@dataclass(frozen=True)
class CtcPrefixes:
    """The prefixes of a search: for frames 0 (before all) to T, natural logs of their paths' probabilities, float64."""

    frames: CtcFrames
    in_phone: Tensor  # (N, K, T + 1) paths that end in the last phone
    in_blank: Tensor  # (N, K, T + 1) that end in a blank
    last: Tensor  # (N, K) last phones, 0 before the first

    def next_scores(self) -> Tensor:
        """(N, K, V): log probability that the labelling begins with the prefix and this phone; of class 0 NEVER."""
        before = torch.logaddexp(self.in_phone, self.in_blank)[:, :, :-1]
        scores = _log_matmul(before, self.frames.probs)
        # A phone follows itself only after a blank.
        again = self.frames.of(self.last)
        repeated = torch.logsumexp(self.in_blank[:, :, :-1] + again, dim=2, keepdim=True)
        scores = scores.scatter(2, self.last[:, :, None], repeated)
        scores[:, :, 0] = NEVER
        return scores.clamp(min=NEVER)

    def end_scores(self) -> Tensor:
        """(N, K): log probability of the prefix as the whole labelling."""
        return torch.logaddexp(self.in_phone[:, :, -1], self.in_blank[:, :, -1])

    def extend(self, parents: Tensor, tokens: Tensor) -> CtcPrefixes:
        """Prefixes (N, K'): those of `parents`, numbers within each utterance, with `tokens` behind them."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        in_phone, in_blank, last = self.in_phone[rows, parents], self.in_blank[rows, parents], self.last[rows, parents]
        before = torch.where((tokens == last)[:, :, None], in_blank, torch.logaddexp(in_phone, in_blank))
        in_phone = _follow(before, self.frames.of(tokens))
        in_blank = _follow(in_phone, self.frames.log_probs[:, None, :, 0].expand(-1, tokens.shape[1], -1))
        return CtcPrefixes(self.frames, in_phone, in_blank, tokens)

    def keep(self, utts: Tensor) -> CtcPrefixes:
        """Of these utterances alone."""
        frames = CtcFrames(self.frames.log_probs[utts], self.frames.probs[utts])
        return CtcPrefixes(frames, self.in_phone[utts], self.in_blank[utts], self.last[utts])


@dataclass(frozen=True)
class CtcFrames:
    """CTC's log-probabilities for the frames of some utterances, float64 (N, T, V)."""

    log_probs: Tensor
    probs: Tensor

    @classmethod
    def of_batch(cls, log_probs: Tensor, lens: Tensor) -> CtcFrames:
        """`log_probs` (N, T, V), whose padding becomes blanks: they change no labelling."""
        log_probs = log_probs.double().clamp(min=_LEAST)
        padding = torch.arange(log_probs.shape[1], device=lens.device) >= lens[:, None]
        log_probs[padding] = _LEAST
        log_probs[:, :, 0] = log_probs[:, :, 0].masked_fill(padding, 0.0)
        return cls(log_probs, log_probs.exp())

    def empty_prefix(self) -> CtcPrefixes:
        """The prefix of no phone, one of each utterance."""
        in_blank = torch.nn.functional.pad(self.log_probs[:, None, :, 0].cumsum(2), (1, 0))
        nothing = torch.zeros(in_blank.shape[:2], dtype=torch.int64, device=in_blank.device)
        return CtcPrefixes(self, torch.full_like(in_blank, NEVER), in_blank, nothing)

    def of(self, tokens: Tensor) -> Tensor:
        """(N, K, T) log probabilities of `tokens` (N, K)."""
        num_frames = self.log_probs.shape[1]
        return self.log_probs.transpose(1, 2).gather(1, tokens[:, :, None].expand(-1, -1, num_frames))


def _follow(before: Tensor, log_probs: Tensor) -> Tensor:
    """r_t = (r_{t-1} + before_{t-1}) p_t with r_0 = 0, in logs: `before` (N, K, T + 1), p (N, K, T)."""
    sums = torch.nn.functional.pad(log_probs.cumsum(2), (1, 0))
    found = torch.logcumsumexp((before - sums)[:, :, :-1], dim=2) + sums[:, :, 1:]
    return torch.nn.functional.pad(found.clamp(min=NEVER), (1, 0), value=NEVER)


def _log_matmul(logs: Tensor, probs: Tensor) -> Tensor:
    """log(exp(`logs`) @ `probs`): (N, K, T) and (N, T, V) to (N, K, V)."""
    largest = logs.amax(dim=2, keepdim=True)
    return (torch.exp(logs - largest) @ probs).log() + largest
