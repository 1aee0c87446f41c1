"""Static and full features, computed by the compiled kernel asrkit._native._mfcc."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from asrkit._native import kernel
from asrkit.errors import ConfigError
from asrkit.features.backends.interface import BackendName, FullBackend
from asrkit.features.backends.reference import log_energy_floor, static_tables

if TYPE_CHECKING:
    from asrkit.features.config import FeatureConfig


class NativeBackend(FullBackend):
    """The compiled kernel with its tables. Its results differ from those of `NumpyBackend` only by rounding.

    Raises ConfigError if the kernel is missing, or as `static_tables`.
    """

    name: ClassVar[BackendName] = "native"
    takes_streams = True
    warps = True
    varies_with_threads = False

    def __init__(self, config: FeatureConfig, warp: float = 1.0) -> None:
        module = kernel("_mfcc")
        if module is None:
            raise ConfigError(
                "features.backend: native, but the compiled kernel is missing; provide a C compiler and Python's "
                "headers and install asrkit again with pip (and leave ASRKIT_NO_NATIVE unset), or choose numpy"
            )
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
        out = np.empty((num_frames, self.config.num_static), np.float32)
        return out if self._module.static(self._plan, samples, first, out) else None

    def full(self, samples: np.ndarray, first: int, num_frames: int, stats: np.ndarray | None) -> np.ndarray | None:
        config = self.config
        out = np.empty((num_frames, config.dim), np.float32)
        options = config.normalization.is_fixed, config.norm_vars, stats, config.delta_order, config.delta_window
        return out if self._module.full(self._plan, samples, first, *options, out) else None
