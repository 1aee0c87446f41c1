"""Time derivatives of features (deltas), as Kaldi's add-deltas."""

from __future__ import annotations

import numpy as np

from asrkit._native import kernel


def add_deltas(feats: np.ndarray, order: int = 2, window: int = 2) -> np.ndarray:
    """Append deltas up to the given `order` to `feats` (T, D): (T, D * (order + 1)) float32.

    A delta is the slope of the regression line over `window` frames on each side. At the ends of the utterance, the
    first and last frame of `feats` are repeated. Deltas of higher order are the deltas of the next lower order. They
    are computed on the extended `feats`, so deltas themselves are never repeated. Source: Kaldi's add-deltas.
    """
    num_frames, dim = feats.shape
    out = np.empty((num_frames, dim * (order + 1)), np.float32)
    native = kernel("_mfcc")
    if native is not None:
        native.full_features(np.require(feats, np.float32, ("C", "A")), None, False, order, window, out)
        return out
    if num_frames == 0:
        return out
    out[:, :dim] = feats
    reach = order * window
    current = np.asarray(feats, np.float32)[np.arange(-reach, num_frames + reach).clip(0, num_frames - 1)]
    norm = 2 * sum(step * step for step in range(1, window + 1))
    for degree in range(1, order + 1):
        center, end = window, len(current) - window
        slope = np.zeros((end - center, dim), np.float32)
        for step in range(1, window + 1):
            slope += np.float32(step / norm) * (
                current[center + step : end + step] - current[center - step : end - step]
            )
        current = slope
        reach -= window
        out[:, degree * dim : (degree + 1) * dim] = current[reach : reach + num_frames]
    return out
