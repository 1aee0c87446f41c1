"""The confidence of a decoded phone: its odds against every other phone, or none, in its place, then calibrated.

Legend: T frames, V classes, U tokens of the labelling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np

from asrkit.config.plain_values import from_plain
from asrkit.config.ranges import between, range_faults
from asrkit.decoding.forced_align import AlignedTokens
from asrkit.decoding.scorer import TokenScorer
from asrkit.errors import ConfigError, raise_if_any
from asrkit.lm.automaton import LmTable
from asrkit.scoring.per import score
from asrkit.scoring.protocols import Protocol

MAX_LOG_ODDS = 30.0  # so that certainty is a finite number
NEAR = 8  # phones to either side: some two seconds of speech in all
_Weight = Annotated[float, between(-1e6, 1e6)]
# What the prior of each weight of a calibration counts for, in phones with evidence of 1 or -1 nat (confidence 0.73 or
# 0.27): such a phone's information on each weight is p * (1 - p). The offset's is the firmest: odds may be too sure
# altogether, but even odds should stay even (Guo et al. 2017 leave the offset out).
PRIOR_PHONES = np.array([40, 40, 40, 40, 160])
PRIOR_PRECISION = PRIOR_PHONES * math.e / (1 + math.e) ** 2
# Ten wrong and ten right ones for each of the five weights (Peduzzi et al., "A simulation study of the number of events
# per variable in logistic regression analysis", 1996): below that the prior says more than the phones.
MIN_PHONES = 50


@dataclass(frozen=True)
class Calibration:
    """confidence = 1 / (1 + exp(-(weighted sum of phone_evidence + offset))).

    Platt's scaling ("Probabilistic outputs for support vector machines", 1999) with more terms. The default takes the
    odds as they are. Raises ConfigError for numbers that are not finite, or huge.
    """

    odds_weight: _Weight = 1.0
    mean_weight: _Weight = 0.0
    near_mean_weight: _Weight = 0.0
    near_lm_weight: _Weight = 0.0
    offset: _Weight = 0.0

    def __post_init__(self) -> None:
        raise_if_any(range_faults(self, "calibration"), ConfigError)

    @classmethod
    def from_plain(cls, values: object) -> Calibration:
        """What asdict gave, also before there was evidence of what is near. Raises ConfigError for anything else."""
        if isinstance(values, dict):
            values = {name: 0.0 for name in asdict(cls()) if name.startswith("near_")} | values
        return from_plain(cls, values, "calibration")

    @property
    def weights(self) -> np.ndarray:
        """(5,) in the order above."""
        return np.array([*asdict(self).values()])

    def __call__(self, evidence: np.ndarray) -> np.ndarray:
        """Evidence (n, 4), as phone_evidence gives it, to confidences (n,) above 0 and below 1."""
        return _logistic(evidence @ self.weights[:-1] + self.offset)


NUM_EVIDENCE = len(asdict(Calibration())) - 1  # columns
_UNCALIBRATED = Calibration().weights
# Of each weight: more evidence never means a lower confidence, and a phone with better odds is the more sure one.
LOWEST = np.array([0.05, 0.0, 0.0, 0.0, -np.inf])


def phone_evidence(log_probs: np.ndarray, aligned: AlignedTokens, scorer: TokenScorer) -> np.ndarray:
    """(U, 4) the evidence for each token, in the order of Calibration's weights.

    Two numbers are of the token itself: its phone_log_odds, and the logit of its geometric mean posterior over its
    frames (`aligned.log_probs`). Two are means over the token and the NEAR tokens to either side: of that logit, and of
    the language model's natural-log probability (0 without a model). Both means fall if speech differs from the
    training data.
    """
    odds = phone_log_odds(log_probs, aligned, scorer)
    mean = np.minimum(aligned.log_probs, 0.0)  # rounding can leave a log probability above 0
    with np.errstate(divide="ignore"):
        logit = mean - np.log(-np.expm1(mean))
    logit = np.clip(logit, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return np.stack([odds, logit, _mean_near(logit), _mean_near(_lm_log_probs(scorer, aligned.tokens))], axis=1)


def _lm_log_probs(scorer: TokenScorer, tokens: np.ndarray) -> np.ndarray:
    """(U,) natural-log probability of each token after those before it, MAX_LOG_ODDS below 0 at least."""
    result = np.zeros(len(tokens))
    if scorer.lm is not None:
        context = scorer.lm.start
        for u, token in enumerate(tokens.tolist()):
            context, result[u] = scorer.lm.step(context, token)
    return np.maximum(result, -MAX_LOG_ODDS)


def _mean_near(values: np.ndarray) -> np.ndarray:
    """(U,) the mean of each value and up to NEAR values to either side."""
    window = np.ones(2 * NEAR + 1)
    if not len(values):
        return values
    sums, counts = (np.convolve(each, window)[NEAR : NEAR + len(values)] for each in (values, np.ones(len(values))))
    return sums / counts


def phone_log_odds(log_probs: np.ndarray, aligned: AlignedTokens, scorer: TokenScorer) -> np.ndarray:
    """(U,) for each token: log of its probability over that of all other tokens, or none, in its place.

    The place of a token reaches from the end of the token before it to the start of the one after it, so the
    neighbours stay as they are. Within it CTC's paths are summed, and the language model and the bonus count as in
    the search. The language model is left out when it is too large for a table.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank.
        aligned: the labelling and its frames, as forced_align gives them.
        scorer: that of the search.
    """
    tokens = aligned.tokens
    if not len(tokens):
        return np.zeros(0)
    starts, ends = np.append(0, aligned.ends[:-1]), np.append(aligned.starts[1:], len(log_probs))
    scores = _scores_in_place(log_probs, tokens, starts, ends)
    scores[:, 1:] += scorer.insertion_bonus
    if scorer.lm is not None and scorer.lm.table is not None:
        scores += scorer.lm_weight * _lm_scores_in_place(scorer.lm.table, tokens)
    each = np.arange(len(tokens))
    own = scores[each, tokens]
    scores[each, tokens] = -np.inf
    others = np.logaddexp.reduce(scores, axis=1)
    return np.clip(own - others, -MAX_LOG_ODDS, MAX_LOG_ODDS)


def _scores_in_place(log_probs: np.ndarray, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(U, V) log probability of frames starts[u] to ends[u] with each class alone in them, column 0: none."""
    # Long places first, so that those still going on are always the first rows.
    order = np.argsort(starts - ends, kind="stable")
    starts, lens = starts[order], (ends - starts)[order]
    before, after = np.append(0, tokens[:-1])[order], np.append(tokens[1:], 0)[order]
    paths = _PathsInPlace(before, log_probs.shape[1])
    for t in range(lens.max()):
        num_open = int(np.searchsorted(-lens, -t))
        paths.advance(log_probs[starts[:num_open] + t].astype(np.float64), is_first=t == 0)
    paths.in_token[np.arange(len(tokens)), after] = -np.inf  # right before an equal token it would be the same token
    result = np.empty(paths.in_token.shape)
    result[order] = np.logaddexp(paths.in_token, paths.past)
    result[order, 0] = paths.in_blank[:, 0]
    return result


class _PathsInPlace:
    """Log probability of the paths through U places so far: blanks, then each class in turn, then blanks.

    `in_blank` (U, 1): still in the blanks before the class. `in_token` (U, V): in the class. `past` (U, V): in the
    blanks after it. `before` (U,) are the tokens before the places, 0 for none.
    """

    def __init__(self, before: np.ndarray, num_classes: int) -> None:
        self._before = before
        self.in_blank = np.zeros((len(before), 1))
        self.in_token, self.past = (np.full((len(before), num_classes), -np.inf) for _ in range(2))

    def advance(self, frames: np.ndarray, is_first: bool) -> None:
        """Take the next frame of the first n places, (n, V)."""
        n, num_classes = frames.shape
        self.past[:n] = np.logaddexp(self.past[:n], self.in_token[:n]) + frames[:, :1]
        enter = np.broadcast_to(self.in_blank[:n], frames.shape)
        if is_first:  # right after an equal token it would be the same token
            enter = np.where(np.arange(num_classes) == self._before[:n, None], -np.inf, enter)
        self.in_token[:n] = np.logaddexp(self.in_token[:n], enter) + frames
        self.in_blank[:n] += frames[:, :1]


def _lm_scores_in_place(table: LmTable, tokens: np.ndarray) -> np.ndarray:
    """(U, V) natural-log LM probability of each class in place of each token, and of the tokens whose context it is."""
    contexts = np.empty(len(tokens), dtype=np.int64)
    context = table.start
    for u, token in enumerate(tokens.tolist()):
        contexts[u] = context
        context = int(table.next_context[context, token])
    result, reached = table.log_probs[contexts], table.next_context[contexts].astype(np.int64)
    result[:, 0], reached[:, 0] = 0.0, contexts
    # The rest differs until the context is the same whatever stood in the place.
    going = np.arange(len(tokens))
    for step in range(1, len(tokens) + 1):
        at_end = going + step == len(tokens)
        result[going[at_end]] += table.end[reached[going[at_end]]]
        going = going[~at_end]
        going = going[(reached[going] != reached[going, :1]).any(axis=1)]
        if not len(going):
            break
        following = tokens[going + step][:, None]
        result[going] += table.log_probs[reached[going], following]
        reached[going] = table.next_context[reached[going], following]
    return result


def right_phones(
    refs: Mapping[str, Sequence[str]], hyps: Mapping[str, Sequence[str]], protocol: Protocol
) -> dict[str, np.ndarray]:
    """For each utterance (U,) float: 1 where a phone of the hypothesis is right, 0 where wrong, NaN where not scored.

    Right means aligned with an equal phone of the reference, after the protocol's folding; its treatment of silence
    is left aside. A phone that is folded to nothing is not scored.
    """

    def fold(phones: Sequence[str]) -> list[str]:
        return list(phones if protocol.phone_map is None else protocol.phone_map.fold(phones))

    result = score({utt: fold(ref) for utt, ref in refs.items()}, {utt: fold(hyps[utt]) for utt in refs})
    right = {}
    for utt, pairs in result.pairs.items():
        outcomes = iter([float(ref == hyp) for ref, hyp in pairs if hyp is not None])
        right[utt] = np.array([next(outcomes) if fold([phone]) else np.nan for phone in hyps[utt]])
    return right


def fit_calibration(evidence: np.ndarray, right: np.ndarray, counts: np.ndarray | float = 1.0) -> Calibration:
    """The most probable calibration, given the phones of a held-out set.

    `evidence` (n, 4), `right` (n,) as right_phones gives it; phones that are not scored are left out. A phone counts as
    `counts` (n,) phones. This is Platt's scaling with a prior (maximum a posteriori): each weight is normal around that
    of the default calibration, with precision PRIOR_PRECISION. So a set with few phones, or few wrong ones, changes the
    odds little, and an empty set not at all. No weight falls below LOWEST. Newton's method works on the weights that
    are not at their bounds (Bertsekas, "Projected Newton methods", 1982), with steps halved until the fit improves. The
    loss is convex.
    """
    scored = ~np.isnan(right)
    counts = np.broadcast_to(counts, len(right))[scored]
    inputs, right = np.column_stack([evidence, np.ones(len(right))])[scored], right[scored]

    def loss(weights: np.ndarray) -> float:
        values = inputs @ weights
        prior = PRIOR_PRECISION @ (weights - _UNCALIBRATED) ** 2 / 2
        return float(counts @ (np.logaddexp(0, values) - right * values) + prior)

    weights = _UNCALIBRATED.copy()
    for _ in range(100):
        fitted = _logistic(inputs @ weights)
        gradient = inputs.T @ (counts * (fitted - right)) + PRIOR_PRECISION * (weights - _UNCALIBRATED)
        hessian = (inputs.T * (counts * fitted * (1 - fitted))) @ inputs + np.diag(PRIOR_PRECISION)
        free = (weights > LOWEST) | (gradient < 0)
        step = np.zeros(len(weights))
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        new = np.maximum(weights - step, LOWEST)
        while loss(new) > loss(weights) * (1 + 1e-12) and np.abs(step).max() > 1e-9:  # but for rounding
            step /= 2
            new = np.maximum(weights - step, LOWEST)
        step, weights = weights - new, new
        if np.abs(step).max() <= 1e-9:
            break
    return Calibration(*weights.tolist())


def _logistic(values: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)  # without overflow
