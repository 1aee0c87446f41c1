"""The confidence of a decoded phone: its odds against all other phones, or no phone, in its place, then calibrated.

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

MAX_LOG_ODDS = 30.0  # keeps the log odds of a certain phone finite
NEAR = 8  # neighbours on either side, about two seconds of speech in all
_Weight = Annotated[float, between(-1e6, 1e6)]
# The strength of the prior of each weight of a calibration. It is given as a number of phones with evidence of 1 or -1
# nat (confidence p = 0.73 or 0.27). The information of such a phone on each weight is p * (1 - p). The prior of the
# offset is the strongest: odds may be too certain in general, but even odds should stay even (Guo et al. 2017 have no
# offset).
PRIOR_PHONES = np.array([40, 40, 40, 40, 160])
PRIOR_PRECISION = PRIOR_PHONES * math.e / (1 + math.e) ** 2
# Ten wrong and ten right phones for each of the five weights (Peduzzi et al., "A simulation study of the number of
# events per variable in logistic regression analysis", 1996). With fewer phones the prior outweighs the data.
MIN_PHONES = 50


@dataclass(frozen=True)
class Calibration:
    """confidence = 1 / (1 + exp(-(weighted sum of phone_evidence + offset))).

    This is Platt's scaling ("Probabilistic outputs for support vector machines", 1999) with more terms. The default
    calibration leaves the odds unchanged. Raises ConfigError for weights that are infinite, NaN or huge.
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
        """Make a calibration from the values of asdict, also from older ones without the weights of near phones.

        Raises:
            ConfigError: the values are something else.
        """
        if isinstance(values, dict):
            values = {name: 0.0 for name in asdict(cls()) if name.startswith("near_")} | values
        return from_plain(cls, values, "calibration")

    @property
    def weights(self) -> np.ndarray:
        """The weights, (5,), in the order above."""
        return np.array([*asdict(self).values()])

    def __call__(self, evidence: np.ndarray) -> np.ndarray:
        """Confidences (n,) between 0 and 1 from `evidence` (n, 4), which comes from phone_evidence."""
        return _logistic(evidence @ self.weights[:-1] + self.offset)


NUM_EVIDENCE = len(asdict(Calibration())) - 1  # columns
_UNCALIBRATED = Calibration().weights
# The lowest value of each weight. More evidence never lowers a confidence, and better odds always raise it.
LOWEST = np.array([0.05, 0.0, 0.0, 0.0, -np.inf])


def phone_evidence(log_probs: np.ndarray, aligned: AlignedTokens, scorer: TokenScorer) -> np.ndarray:
    """The evidence for each token, (U, 4), in the order of the weights of Calibration.

    - its phone_log_odds;
    - the logit of its geometric mean posterior over its frames (`aligned.log_probs`);
    - the mean of this logit over the token and NEAR tokens on either side;
    - the same mean of the language model's natural-log probability (0 without a model).

    Both means fall if the speech differs from the training data. Arguments are those of phone_log_odds; `log_probs` is
    (T, V).
    """
    odds = phone_log_odds(log_probs, aligned, scorer)
    mean = np.minimum(aligned.log_probs, 0.0)  # rounding can leave a log probability above 0
    with np.errstate(divide="ignore"):
        logit = mean - np.log(-np.expm1(mean))
    logit = np.clip(logit, -MAX_LOG_ODDS, MAX_LOG_ODDS)
    return np.stack([odds, logit, _mean_near(logit), _mean_near(_lm_log_probs(scorer, aligned.tokens))], axis=1)


def _lm_log_probs(scorer: TokenScorer, tokens: np.ndarray) -> np.ndarray:
    """Natural-log probability of each token given the tokens before it, (U,), at least -MAX_LOG_ODDS."""
    result = np.zeros(len(tokens))
    if scorer.lm is not None:
        contexts = scorer.lm.begin()
        context = contexts.start
        for u, token in enumerate(tokens.tolist()):
            context, result[u] = contexts.step(context, token)
    return np.maximum(result, -MAX_LOG_ODDS)


def _mean_near(values: np.ndarray) -> np.ndarray:
    """The mean of each value and up to NEAR values on either side, (U,)."""
    window = np.ones(2 * NEAR + 1)
    if not len(values):
        return values
    sums, counts = (np.convolve(each, window)[NEAR : NEAR + len(values)] for each in (values, np.ones(len(values))))
    return sums / counts


def phone_log_odds(log_probs: np.ndarray, aligned: AlignedTokens, scorer: TokenScorer) -> np.ndarray:
    """For each token the natural log of its probability over that of all other tokens, or none, in its place: (U,).

    The place of a token begins after the previous token's last frame, and ends before the next token's first frame. So
    the neighbours do not change. Within the place all paths of CTC are summed. Language model and bonus count as in the
    search; a language model that is a network, or too large for a table, is left out.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank.
        aligned: the labelling and its frames, from forced_align.
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
    """Log probability of frames starts[u] to ends[u] with each class alone in them, (U, V). Column 0: no phone."""
    # Long places first, so that places with more frames are always the first rows.
    order = np.argsort(starts - ends, kind="stable")
    starts, lens = starts[order], (ends - starts)[order]
    before, after = np.append(0, tokens[:-1])[order], np.append(tokens[1:], 0)[order]
    paths = _PathsInPlace(before, log_probs.shape[1])
    for t in range(lens.max()):
        num_open = int(np.searchsorted(-lens, -t))
        paths.advance(log_probs[starts[:num_open] + t].astype(np.float64), is_first=t == 0)
    paths.in_token[np.arange(len(tokens)), after] = -np.inf  # directly before an equal token, both would be one token
    result = np.empty(paths.in_token.shape)
    result[order] = np.logaddexp(paths.in_token, paths.past)
    result[order, 0] = paths.in_blank[:, 0]
    return result


class _PathsInPlace:
    """Log probability of the paths through U places so far: first blanks, then one class, then blanks.

    Attributes:
        in_blank: (U, 1) paths that are still in the blanks before the class.
        in_token: (U, V) paths in the class.
        past: (U, V) paths in the blanks after it.
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
        if is_first:  # directly after an equal token, both would be one token
            enter = np.where(np.arange(num_classes) == self._before[:n, None], -np.inf, enter)
        self.in_token[:n] = np.logaddexp(self.in_token[:n], enter) + frames
        self.in_blank[:n] += frames[:, :1]


def _lm_scores_in_place(table: LmTable, tokens: np.ndarray) -> np.ndarray:
    """Natural-log LM probability of each class in place of each token, and of all following tokens: (U, V)."""
    contexts = np.empty(len(tokens), dtype=np.int64)
    context = table.start
    for u, token in enumerate(tokens.tolist()):
        contexts[u] = context
        context = int(table.next_context[context, token])
    result, reached = table.log_probs[contexts], table.next_context[contexts].astype(np.int64)
    result[:, 0], reached[:, 0] = 0.0, contexts
    # The scores of following tokens differ until the context no longer depends on the class in the place.
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
    """Which phones of each hypothesis are right: (U,) float with 1 for right, 0 for wrong, NaN for not scored.

    A phone is right if it is aligned with an equal phone of the reference, after the protocol's folding. The protocol's
    treatment of silence does not count. A phone that is folded to nothing is not scored.
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
    """Fit the most probable calibration to the phones of a held-out set.

    This is Platt's scaling with a prior (maximum a posteriori). The prior of each weight is normal around the default
    calibration, with precision PRIOR_PRECISION. So a set with few phones, or few wrong ones, changes the odds little,
    and an empty set changes nothing. No weight falls below LOWEST.

    The loss is convex. Newton's method changes the weights that are not at their bounds (Bertsekas, "Projected Newton
    methods", 1982), and halves a step until the fit improves.

    Args:
        evidence: (n, 4) from phone_evidence.
        right: (n,) from right_phones. Phones that are not scored are left out.
        counts: (n,) the weight of each phone, or a scalar.
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
        while loss(new) > loss(weights) * (1 + 1e-12) and np.abs(step).max() > 1e-9:  # tolerate rounding
            step /= 2
            new = np.maximum(weights - step, LOWEST)
        step, weights = weights - new, new
        if np.abs(step).max() <= 1e-9:
            break
    return Calibration(*weights.tolist())


def _logistic(values: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)  # without overflow
