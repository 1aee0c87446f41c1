"""Reliability of confidences: the share of right phones in each bin, and the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The confidences from `low` up to `high`.

    Attributes:
        number: how many there are.
        confidence: their mean; None in an empty bin.
        accuracy: the share that is right; None in an empty bin.
    """

    low: float
    high: float
    number: int
    confidence: float | None
    accuracy: float | None


def reliability(confidences: np.ndarray, right: np.ndarray, num_bins: int = NUM_BINS) -> list[Bin]:
    """Sort confidences into bins of equal width from 0 to 1. A confidence of 1 belongs to the last bin.

    Args:
        confidences: (n,) from 0 to 1.
        right: (n,) for a phone 0 or 1; for an utterance the share of its phones that is right.
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
    """The mean of |accuracy - mean confidence| over all confidences, with the figures of each one's bin.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017. Arguments are those of `reliability`:
    `confidences` (n,) and `right` (n,). The result is between 0 and 1, and NaN without confidences.
    """
    if not len(confidences):
        return float("nan")
    gaps = [
        b.number * abs(b.accuracy - b.confidence)
        for b in reliability(confidences, right, num_bins)
        if b.accuracy is not None and b.confidence is not None
    ]
    return sum(gaps) / len(confidences)
