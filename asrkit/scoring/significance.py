"""Bootstrap intervals of a PER, and of the difference of two PERs, over utterances or over speakers.

A PER is a ratio of two sums over units. The units are utterances or speakers. The bootstrap draws units with
replacement (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).

The interval is the bootstrap-t (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 12.5). It uses
the linearised standard error of the ratio. Plain percentiles of the drawn rates would be too narrow for the 10 to 30
speakers of a usual test set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from asrkit.scoring.per import Counts, pool

MIN_UNITS = 8
SEED = 0
MAX_SAMPLES, MIN_SAMPLES = 10_000, 1_000
MAX_DRAWS = 20_000_000  # samples times units; for more units fewer samples are drawn
CHUNK_DRAWS = 1_000_000  # drawn at once, to limit memory


@dataclass(frozen=True)
class Interval:
    """A 95 % interval in percent, and the bootstrap that gave it.

    Attributes:
        low, high: the limits; None when there is no interval.
        num_units: utterances or speakers.
        num_samples, seed: of the bootstrap.
    """

    low: float | None
    high: float | None
    num_units: int
    num_samples: int
    seed: int

    def text(self, unit: str) -> str:
        """`95 % interval over 24 speakers: 7.01 to 8.30 (bootstrap-t, 10000 samples, seed 0)`."""
        how = "" if self.low is None else f" (bootstrap-t, {self.num_samples} samples, seed {self.seed})"
        return f"95 % interval over {self.num_units} {unit}: {self.range_text()}{how}"

    def range_text(self) -> str:
        """`7.01 to 8.30`, or the reason why there is no interval."""
        if self.low is not None:
            return f"{self.low:.2f} to {self.high:.2f}"
        return f"none (fewer than {MIN_UNITS})" if self.num_units < MIN_UNITS else "none (too few differ)"

    def to_dict(self) -> dict[str, float | int | None]:
        """All attributes for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The comparison of two systems, A and B, on the same units.

    Attributes:
        difference: PER of A minus PER of B, in percent.
        interval: the 95 % interval of the difference.
        prob_a_better: share of the bootstrap samples in which A makes fewer errors than B. A tie counts half.
    """

    difference: float
    interval: Interval
    prob_a_better: float


def intervals(per_utt: Mapping[str, Counts], utt2spk: Mapping[str, str] | None = None) -> dict[str, Interval]:
    """Intervals of the pooled PER over "utterances" and, when `utt2spk` is given, over "speakers"."""
    groups = {"utterances": list(per_utt.values())}
    if utt2spk is not None:
        groups["speakers"] = list(pool_speakers(per_utt, utt2spk).values())
    return {
        unit: rate_interval([c.num_errors for c in counts], [c.num_ref for c in counts])
        for unit, counts in groups.items()
    }


def pool_speakers(per_utt: Mapping[str, Counts], utt2spk: Mapping[str, str]) -> dict[str, Counts]:
    """Counts of each speaker, in the order in which `per_utt` first names the speakers."""
    counts_of: dict[str, list[Counts]] = defaultdict(list)
    for utt, counts in per_utt.items():
        counts_of[utt2spk[utt]].append(counts)
    return {spk: pool(counts) for spk, counts in counts_of.items()}


def rate_interval(errors: ArrayLike, refs: ArrayLike, *, num_samples: int | None = None, seed: int = SEED) -> Interval:
    """The 95 % interval of 100 * sum(errors) / sum(refs), in percent.

    There is no interval (its limits are None) for fewer than 8 units. There is none either when too few units differ
    from the rest, for example when only one unit has errors: then the samples have no spread.

    Args:
        errors, refs: (n,) errors and reference tokens of each unit.
        num_samples: bootstrap samples; by default 10,000, and fewer for very many units.
    """
    interval, _ = _bootstrap(np.asarray(errors, float), np.asarray(refs, float), num_samples, seed)
    if interval.low is None:
        return interval
    return Interval(max(interval.low, 0.0), interval.high, interval.num_units, interval.num_samples, interval.seed)


def compare(
    counts_a: Sequence[Counts], counts_b: Sequence[Counts], *, num_samples: int | None = None, seed: int = SEED
) -> Comparison:
    """Compare two systems with the paired bootstrap.

    A unit that is hard for one system is usually hard for the other one. So each draw takes the counts of both systems
    for the same unit.

    Args:
        counts_a, counts_b: counts of the same units in the same order, with the same reference tokens.
    """
    errors_a, errors_b = ([counts.num_errors for counts in system] for system in (counts_a, counts_b))
    refs = [counts.num_ref for counts in counts_a]
    return compare_errors(errors_a, errors_b, refs, num_samples=num_samples, seed=seed)


def compare_errors(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    refs: ArrayLike,
    *,
    num_samples: int | None = None,
    seed: int = SEED,
) -> Comparison:
    """Compare two systems as `compare` does, from their errors and reference tokens.

    Args:
        errors_a, errors_b: (n,) errors of each unit. They can be means over several runs.
        refs: (n,) reference tokens of each unit.
    """
    tokens = np.asarray(refs, float)
    more = np.asarray(errors_a, float) - np.asarray(errors_b, float)
    interval, prob_fewer = _bootstrap(more, tokens, num_samples, seed)
    difference = 100.0 * more.sum() / tokens.sum() if tokens.sum() else float("nan")
    return Comparison(float(difference), interval, prob_fewer)


def _bootstrap(errors: np.ndarray, refs: np.ndarray, num_samples: int | None, seed: int) -> tuple[Interval, float]:
    """The interval of sum(errors) / sum(refs) in percent, and the share of samples with a negative sum of errors."""
    num_units = len(errors)
    if num_samples is None:
        num_samples = int(np.clip(MAX_DRAWS // max(num_units, 1), MIN_SAMPLES, MAX_SAMPLES))
    if not refs.sum() or not num_units:
        return Interval(None, None, num_units, num_samples, seed), 0.5
    moments = np.stack([errors, refs, errors * errors, errors * refs, refs * refs], axis=1)
    rng = np.random.default_rng(seed)
    sums = np.concatenate(
        [_draw_sums(moments, rows, rng) for rows in _chunks(num_samples, max(CHUNK_DRAWS // num_units, 1))]
    )
    prob_fewer = float(np.mean(sums[:, 0] < 0) + np.mean(sums[:, 0] == 0) / 2)
    sums = sums[sums[:, 1] > 0]
    ratio, error = (float(values[0]) for values in _ratio_and_error(moments.sum(axis=0, keepdims=True)))
    ratios, drawn_errors = _ratio_and_error(sums)
    moved = ratios - ratio
    with np.errstate(divide="ignore", invalid="ignore"):
        studentized = np.where(moved == 0, 0.0, moved / drawn_errors)
    lower, upper = np.quantile(studentized, [0.025, 0.975], method="inverted_cdf")
    low, high = 100.0 * (ratio - upper * error), 100.0 * (ratio - lower * error)
    if num_units < MIN_UNITS or error == 0.0 or not np.isfinite([low, high]).all():
        return Interval(None, None, num_units, num_samples, seed), prob_fewer
    return Interval(float(low), float(high), num_units, num_samples, seed), prob_fewer


def _chunks(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _draw_sums(moments: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Sums (num_samples, columns) of `moments` (num_units, columns), over units drawn with replacement."""
    num_units = len(moments)
    drawn = rng.integers(num_units, size=(num_samples, num_units))
    drawn += num_units * np.arange(num_samples)[:, None]
    times = np.bincount(drawn.ravel(), minlength=num_samples * num_units).reshape(num_samples, num_units)
    return times.astype(float) @ moments


def _ratio_and_error(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ratio and its linearised standard error. The columns of `sums` are the sums of e, r, e * e, e * r and r * r.

    The factor for the number of units is left out. It is the same in every sample, and the interval divides by it.
    """
    e, r, ee, er, rr = sums.T
    ratios = e / r
    squares = ee - 2 * ratios * er + ratios**2 * rr  # of e - ratio * r
    # Rounding can leave a tiny rest where the sum of squares is zero. That rest is not a spread.
    squares = np.where(squares < 1e-9 * (ee + 1), 0.0, squares)
    return ratios, np.sqrt(squares) / r


def to_json(by_unit: Mapping[str, Interval]) -> dict[str, dict[str, float | int | None]]:
    """The intervals for JSON, by their unit."""
    return {unit: interval.to_dict() for unit, interval in by_unit.items()}
