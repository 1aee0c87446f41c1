"""Positions as vectors (Vaswani et al. 2017). Does not load torch."""

from __future__ import annotations

import numpy as np

_LONGEST = 10000.0  # the longest period is 2 pi times this many places


def sinusoids(first: int, number: int, size: int) -> np.ndarray:
    """The vectors of `number` places from the place `first` on: (number, size), float64, from -1 to 1.

    p(i, 2k) = sin(i / 10000^(2k / size)), p(i, 2k + 1) = cos(i / 10000^(2k / size)). There is no last place. The vector
    of place i + d is a rotation of that of place i, and the rotation depends only on d.
    """
    numbers = np.arange(size)
    angles = np.arange(first, first + number)[:, None] / _LONGEST ** (numbers // 2 * 2 / size)
    found: np.ndarray = np.where(numbers % 2 == 0, np.sin(angles), np.cos(angles))
    return found
