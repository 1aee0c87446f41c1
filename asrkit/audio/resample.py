"""Changes the sampling rate of audio with soxr, at quality HQ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from asrkit.audio.source import check_rate
from asrkit.types import Waveform

_QUALITY = "HQ"


def resample(waveform: Waveform, sample_rate: int, name: str = "audio") -> Waveform:
    """Resample the waveform to `sample_rate` (Hz). It is returned unchanged if it has this rate.

    Raises AudioError as `check_rate`, for the audio `name`.
    """
    if waveform.sample_rate == sample_rate:
        return waveform
    check_rate(waveform.sample_rate, name, sample_rate)
    samples = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality=_QUALITY)
    return Waveform(np.ascontiguousarray(samples, np.float32), sample_rate)


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample audio that comes in `blocks`, each (num_samples,) float32, and yield such blocks.

    The samples are exactly those that `resample` gives for the whole audio. Rates are in Hz.
    """
    resampler = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=_QUALITY)
    for samples in blocks:
        yield resampler.resample_chunk(samples)
    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
