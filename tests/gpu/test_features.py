"""Features by torchaudio on the device: those of asrkit's own backend, but for rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from asrkit.errors import ConfigError, MissingPackageError
from asrkit.features.backends.torchaudio_backend import TorchaudioBackend
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.types import Waveform


@pytest.mark.parametrize("kind", ["mfcc", "fbank"])
def test_torchaudio_computes_our_features(kind: Literal["mfcc", "fbank"], device: torch.device) -> None:
    config = FeatureConfig(kind=kind, backend="torchaudio")
    try:
        extract = FeatureExtractor(config)
    except (MissingPackageError, ConfigError) as error:
        pytest.skip(str(error))
    backend = extract._backend
    assert isinstance(backend, TorchaudioBackend)
    assert backend.device == ("cuda" if torch.cuda.is_available() else "cpu")
    backend.device = device.type
    rng = np.random.default_rng(1)
    waveforms = [Waveform(rng.normal(0, 1000, 4000 + 371 * n).astype(np.float32), 16000) for n in range(20)]
    names = [str(n) for n in range(20)]
    ours = FeatureExtractor(replace(config, backend="auto"))
    for waveform, name, found in zip(waveforms, names, extract.batch(waveforms, names), strict=True):
        np.testing.assert_allclose(found, ours(waveform, name), atol=5e-3)
