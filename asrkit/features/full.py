"""The input of a model from static features: CMVN, then deltas."""

from __future__ import annotations

import numpy as np

from asrkit._native import kernel
from asrkit.features.cmvn import check_stats
from asrkit.features.config import FeatureConfig
from asrkit.features.deltas import add_deltas


def full_features(static: np.ndarray, stats: np.ndarray | None, config: FeatureConfig) -> np.ndarray:
    """Convert the features `static` (T, D) to the input of a model, (T, D * (delta_order + 1)) float32.

    First CMVN is applied, then deltas are added. `stats` (2, D + 1) are the CMVN statistics of the speaker or of the
    training set, as the mode of CMVN needs. A mode that needs none ignores them.

    Raises:
        ConfigError: the mode needs `stats`, and they are None.
        DataError: `stats` do not fit.
    """
    mode = config.normalization
    stats = mode.needed_stats(stats)
    native = kernel("_mfcc")
    if native is None or not mode.is_fixed:
        return add_deltas(mode.normalizer(stats)(static), config.delta_order, config.delta_window)
    stats = mode.used_stats(static, stats)
    static = mode.floored(static, stats)
    out = np.empty((static.shape[0], static.shape[1] * (config.delta_order + 1)), np.float32)
    static, stats = np.require(static, np.float32, ("C", "A")), check_stats(stats, static.shape[1])
    native.full_features(static, stats, config.norm_vars, config.delta_order, config.delta_window, out)
    return out
