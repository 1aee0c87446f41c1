"""Static and full features from the compiled kernel asrkit._native._mfcc."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.features.reference import log_energy_floor, static_tables


class NativeBackend:
    """The kernel with its tables. Its results are those of NumpyBackend, but for rounding."""

    def __init__(self, config: FeatureConfig, module: ModuleType, warp: float = 1.0) -> None:
        self.config = config
        self._module = module
        window, filters, dct = static_tables(config, warp)
        energy = 0 if not config.use_energy else 2 if config.raw_energy else 1
        self._plan = module.plan(
            config.frame_shift,
            config.fft_size,
            1.0 - config.preemphasis,
            config.remove_dc_offset,
            energy,
            log_energy_floor(config),
            window.astype(np.float32),
            np.ascontiguousarray(filters.T, np.float32),
            None if dct is None else np.ascontiguousarray(dct, np.float32),
        )

    def static(self, samples: np.ndarray, first: int, num_frames: int, row: int = 0) -> np.ndarray | None:
        """As NumpyBackend.static; a frame's bits never depend on `row`."""
        out = np.empty((num_frames, self.config.num_static), np.float32)
        return out if self._module.static(self._plan, samples, first, out) else None

    def full(self, samples: np.ndarray, first: int, num_frames: int, stats: np.ndarray | None) -> np.ndarray | None:
        """Static features, CMVN and deltas (T, dim) in one call; with `stats` None CMVN takes those of these frames."""
        config = self.config
        out = np.empty((num_frames, config.dim), np.float32)
        options = config.normalization.is_fixed, config.norm_vars, stats, config.delta_order, config.delta_window
        return out if self._module.full(self._plan, samples, first, *options, out) else None
