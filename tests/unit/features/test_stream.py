from dataclasses import replace

import numpy as np
import pytest

from asrkit.errors import AudioError, ConfigError
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.stream import StaticStream
from asrkit.types import Waveform

BACKENDS = ["auto", "numpy"]


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.round(np.random.default_rng(seed).normal(0, 1000, num_samples)).astype(np.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_come_as_soon_as_they_are_complete(backend: str) -> None:
    stream = StaticStream(FeatureExtractor(FeatureConfig(backend=backend)))
    assert [len(stream.accept(noise(n))) for n in (399, 1, 159, 1, 0, 480)] == [0, 1, 0, 1, 0, 3]
    assert len(stream.finish()) == 0


def test_centred_frames_wait_for_their_second_half() -> None:
    stream = StaticStream(FeatureExtractor(FeatureConfig(snip_edges=False)))
    # Frame t ends at sample 280 + 160 t.
    assert [len(stream.accept(noise(n))) for n in (279, 1, 159, 1)] == [0, 1, 0, 1]
    assert len(stream.finish()) == 1  # (440 + 80) // 160 frames in all


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"snip_edges": False},
        {"dither": 1.0, "use_energy": True, "sample_rate": 8000},
        {"snip_edges": False, "sample_rate": 22050, "frame_length_ms": 23.0, "frame_shift_ms": 12.5},
        {"frame_length_ms": 16.0, "frame_shift_ms": 40.0},
        {"frame_length_ms": 16.0, "frame_shift_ms": 40.0, "snip_edges": False},
        {"kind": "fbank", "use_energy": True, "raw_energy": False, "window": "hamming"},
    ],
)
def test_the_bits_are_those_of_the_whole(backend: str, settings: dict) -> None:
    extract = FeatureExtractor(FeatureConfig(backend=backend, **settings))
    samples = noise(40000)
    whole = extract(Waveform(samples, extract.config.sample_rate), "utt1")
    for size in (37, 160, 1000, 39999):
        stream = StaticStream(extract, "utt1")
        chunks = [stream.accept(samples[i : i + size]) for i in range(0, len(samples), size)]
        np.testing.assert_array_equal(np.concatenate([*chunks, stream.finish()]), whole)


def test_memory_does_not_grow() -> None:
    for snip_edges in (True, False):
        stream = StaticStream(FeatureExtractor(FeatureConfig(snip_edges=snip_edges)))
        for _ in range(100):
            stream.accept(noise(1600))
            assert len(stream._samples) <= 1000


def test_too_short_a_stream() -> None:
    stream = StaticStream(FeatureExtractor(FeatureConfig()), "utt1")
    stream.accept(noise(300))
    with pytest.raises(AudioError, match=r"utt1: 300 samples \(18\.8 ms\); expected one frame or more, 400 samples"):
        stream.finish()


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_that_cannot_be_used(backend: str) -> None:
    stream = StaticStream(FeatureExtractor(FeatureConfig(backend=backend)), "utt1")
    stream.accept(noise(1000))
    bad = noise(1000)
    bad[500] = np.nan
    with pytest.raises(AudioError, match="utt1: 1 samples are NaN or infinite"):
        stream.accept(bad)


def test_wrong_use() -> None:
    stream = StaticStream(FeatureExtractor(FeatureConfig()))
    with pytest.raises(ValueError, match="shape"):
        stream.accept(noise(100).reshape(2, 50))
    stream.accept(noise(400))
    stream.finish()
    with pytest.raises(ValueError, match="after finish"):
        stream.accept(noise(400))


def test_backends_that_take_no_streams() -> None:
    with pytest.raises(ConfigError, match=r"features\.backend: librosa takes no streams"):
        StaticStream(FeatureExtractor(replace(FeatureConfig(), backend="librosa")))
