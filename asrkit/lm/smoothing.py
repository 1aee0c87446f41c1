"""N-gram counts as arrays, and three ways to smooth their probabilities.

All three interpolate each order n with the next lower one. h' is the context h without its first symbol:

    P_n(w | h) = (kept(hw) + reserved(h) P_{n-1}(w | h')) / (sum over v of kept(hv) + reserved(h))

The lowest level is the uniform distribution. The back-off weight of h is reserved(h) divided by the denominator.

- "kneser_ney", interpolated modified Kneser-Ney (Kneser and Ney 1995; Chen and Goodman 1999): kept = a(hw) - D(a(hw)),
  and reserved is the sum of the discounts D. The count a of an n-gram is its number of occurrences at the highest order
  and if it begins with <s>. Otherwise it is the number of different symbols that precede the n-gram.
- "witten_bell" (Witten and Bell 1991): kept = c(hw), and reserved is the number of different symbols seen after h.
- "laplace", interpolated Laplace smoothing: kept = c(hw), reserved = epsilon_n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrkit.errors import ConfigError

SMOOTHINGS = ("kneser_ney", "witten_bell", "laplace")
EPSILONS = (1.0, 20.0)  # for unigrams and for all higher orders
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # as in KenLM's lmplz --discount_fallback


@dataclass(frozen=True)
class Level:
    """The R different n-grams of one order in a text, sorted by the ids of their symbols.

    The unigrams are all symbols, even those that do not occur.

    Attributes:
        context: (R,) row of the n-gram without its last symbol, among the n-grams of the next lower order; 0 for
            unigrams.
        suffix: (R,) row of the n-gram without its first symbol; 0 for unigrams.
        last: (R,) id of the last symbol.
        counts: (R,) occurrences.
        bos: (R,) bool, whether it begins with <s>.
    """

    context: np.ndarray
    suffix: np.ndarray
    last: np.ndarray
    counts: np.ndarray
    bos: np.ndarray


def count_ngrams(text: np.ndarray, num_symbols: int, order: int, bos: int) -> list[Level]:
    """Count the n-grams of orders 1 to `order` within sentences.

    Args:
        text: (T,) ids of the symbols of all sentences, one sentence after the other. Each begins with `bos`.
        num_symbols: ids are below this number.
        order: the highest order.
        bos: the id of <s>, which occurs only in contexts.
    """
    positions = np.arange(len(text))
    offsets = positions - np.maximum.accumulate(np.where(text == bos, positions, 0))
    symbols = np.arange(num_symbols)
    counts = np.bincount(text[offsets > 0], minlength=num_symbols)
    levels = [Level(np.zeros_like(symbols), np.zeros_like(symbols), symbols, counts, symbols == bos)]
    rows = text.astype(np.int64)  # row of the n-gram that ends at each position
    for n in range(2, order + 1):
        ends = np.flatnonzero(offsets >= n - 1)
        keys = rows[ends - 1] * num_symbols + text[ends]
        keys, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        context, last = np.divmod(keys, num_symbols)
        levels.append(Level(context, rows[ends[first]], last, counts, levels[-1].bos[context]))
        rows[ends] = inverse
    return levels


def estimate(levels: Sequence[Level], smoothing: str, epsilons: Sequence[float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probabilities (R,) and back-off weights (R,) of the n-grams of each level.

    Without a continuation the weight is 1.

    `epsilons` are those of "laplace", for unigrams, bigrams...; the last one also serves all higher orders.

    Raises:
        ConfigError: `smoothing` is not in SMOOTHINGS, or epsilons are not positive numbers.
    """
    if smoothing not in SMOOTHINGS:
        raise ConfigError(f"language model: smoothing {smoothing!r}; expected one of {', '.join(SMOOTHINGS)}")
    if not epsilons or not all(0 < epsilon < math.inf for epsilon in epsilons):
        raise ConfigError(f"language model: epsilons {' '.join(map(str, epsilons)) or '()'}; expected positive numbers")
    probs = [np.full(1, 1 / (len(levels[0].last) - 1))]  # uniform: over all symbols but <s>
    backoffs = []
    for n, level in enumerate(levels):
        num_contexts = len(probs[-1])
        kept = level.counts.astype(np.float64)
        if smoothing == "kneser_ney":
            counts = adjusted_counts(levels, n)
            discounts = np.array([0.0, *kneser_ney_discounts(counts)])[np.minimum(counts, 3)]
            kept = counts - discounts
            reserved = np.bincount(level.context, discounts, num_contexts)
        elif smoothing == "witten_bell":
            reserved = np.bincount(level.context[level.counts > 0], minlength=num_contexts)
        else:
            reserved = np.full(num_contexts, epsilons[min(n, len(epsilons) - 1)])
        total = np.bincount(level.context, kept, num_contexts) + reserved
        backoffs.append(np.divide(reserved, total, out=np.ones(num_contexts), where=total > 0))
        probs.append((kept + reserved[level.context] * probs[-1][level.suffix]) / total[level.context])
    backoffs.append(np.ones_like(probs[-1]))
    return list(zip(probs[1:], backoffs[1:], strict=True))


def adjusted_counts(levels: Sequence[Level], n: int) -> np.ndarray:
    """The counts (R,) of levels[n] for Kneser-Ney smoothing."""
    if n == len(levels) - 1:
        return levels[n].counts
    num_preceding = np.bincount(levels[n + 1].suffix, minlength=len(levels[n].counts))
    return np.where(levels[n].bos, levels[n].counts, num_preceding)


def kneser_ney_discounts(counts: np.ndarray) -> tuple[float, ...]:
    """D1, D2 and D3+ from the `counts` (R,) (Chen and Goodman 1999, equation 26), or FALLBACK_DISCOUNTS.

    The estimates need n-grams with counts 1, 2 and 3, and each D_j must be above 0 and at most j. Phone unigrams are
    all frequent, so they have no such counts.
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    discounts = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    return discounts if all(0 < d <= j for j, d in enumerate(discounts, 1)) else FALLBACK_DISCOUNTS
