"""Positions as vectors (Vaswani et al. 2017). Loads no torch."""

from __future__ import annotations

import numpy as np

_LONGEST = 10000.0  # 2 pi times this many places are the longest period


def sinusoids(first: int, number: int, size: int) -> np.ndarray:
    """(number, size) of the places from `first` on, float64, from -1 to 1.

    p(i, 2k) = sin(i / 10000^(2k / size)), p(i, 2k + 1) = cos(i / 10000^(2k / size)): there is no last place, and the
    vector of i + d is a rotation of that of i, whatever i is.
    """
    numbers = np.arange(size)
    angles = np.arange(first, first + number)[:, None] / _LONGEST ** (numbers // 2 * 2 / size)
    found: np.ndarray = np.where(numbers % 2 == 0, np.sin(angles), np.cos(angles))
    return found
