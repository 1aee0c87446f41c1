"""The reliability of confidences: shares of right phones over bins, and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Confidences from `low` up to `high`: how many, their mean, and the share that was right (None: empty bin)."""

    low: float
    high: float
    number: int
    confidence: float | None
    accuracy: float | None


def reliability(confidences: np.ndarray, right: np.ndarray, num_bins: int = NUM_BINS) -> list[Bin]:
    """Bins of equal width from 0 to 1; a confidence of 1 is in the last.

    `confidences` (n,) from 0 to 1; `right` (n,): 0 or 1 for phones, or for utterances the share of their phones that
    is right.
    """
    bin_of = np.minimum((np.asarray(confidences) * num_bins).astype(int), num_bins - 1)
    numbers = np.bincount(bin_of, minlength=num_bins)
    sums = (np.bincount(bin_of, values, num_bins) for values in (confidences, right))
    return [
        Bin(
            index / num_bins,
            (index + 1) / num_bins,
            int(number),
            float(confidence / number) if number else None,
            float(accuracy / number) if number else None,
        )
        for index, (number, confidence, accuracy) in enumerate(zip(numbers, *sums, strict=True))
    ]


def expected_calibration_error(confidences: np.ndarray, right: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """The mean over all of |accuracy - mean confidence| of their bin, 0 to 1; NaN for none.

    Guo et al., "On calibration of modern neural networks", ICML 2017.
    """
    if not len(confidences):
        return float("nan")
    gaps = [
        b.number * abs(b.accuracy - b.confidence)
        for b in reliability(confidences, right, num_bins)
        if b.accuracy is not None and b.confidence is not None
    ]
    return sum(gaps) / len(confidences)
