import warnings

import numpy as np
import pytest

from asrkit.errors import AudioError
from asrkit.features.backends.reference import log_energy_floor
from asrkit.features.cmvn import NORMALIZATIONS, accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.types import Waveform


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1000, num_samples).astype(np.float32)


def test_audio_shorter_than_a_frame() -> None:
    extract = FeatureExtractor(FeatureConfig())
    assert extract(Waveform(noise(400), 16000)).shape == (1, 13)
    with pytest.raises(AudioError) as caught:
        extract(Waveform(noise(399), 16000), "utt1")
    assert str(caught.value) == (
        "utt1: 399 samples (24.9 ms); expected one frame or more, 400 samples (25 ms); remove it or check its segment"
    )


def test_audio_of_another_rate() -> None:
    with pytest.raises(AudioError) as caught:
        FeatureExtractor(FeatureConfig())(Waveform(noise(8000), 8000), "utt1")
    assert str(caught.value) == "utt1: audio at 8000 Hz; expected 16000 Hz (features.sample_rate)"


def test_no_energy_floor_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log_energy_floor(FeatureConfig(energy_floor=0.0)) == -np.inf
    assert log_energy_floor(FeatureConfig(energy_floor=100.0)) == np.log(100.0)


def test_num_frames_is_what_comes_out() -> None:
    for snip_edges in (True, False):
        extract = FeatureExtractor(FeatureConfig(snip_edges=snip_edges))
        for num_samples in (400, 640, 30000):
            assert len(extract(Waveform(noise(num_samples), 16000))) == extract.num_frames(num_samples)


def test_frames_depend_on_their_own_samples_alone() -> None:
    extract = FeatureExtractor(FeatureConfig(use_energy=True))
    samples = noise(60000)
    whole = extract(Waveform(samples, 16000))
    later = extract(Waveform(samples[37 * 160 :], 16000))
    np.testing.assert_allclose(whole[37:], later, atol=1e-4)


def test_samples_are_not_changed() -> None:
    samples = noise(8000)
    before = samples.copy()
    FeatureExtractor(FeatureConfig(dither=1.0))(Waveform(samples, 16000), "utt1")
    np.testing.assert_array_equal(samples, before)


def test_samples_of_other_types_and_strides() -> None:
    extract = FeatureExtractor(FeatureConfig())
    stereo = np.round(noise(16000)).reshape(-1, 2)
    expected = extract(Waveform(stereo[:, 0].copy(), 16000))
    np.testing.assert_array_equal(extract(Waveform(stereo[:, 0], 16000)), expected)
    np.testing.assert_array_equal(extract(Waveform(stereo[:, 0].astype(np.int16), 16000)), expected)


def test_dither_is_drawn_by_utterance() -> None:
    extract = FeatureExtractor(FeatureConfig(dither=1.0))
    silence = Waveform(np.zeros(80000, np.float32), 16000)
    first = extract(silence, "utt1")
    np.testing.assert_array_equal(extract(silence, "utt1"), first)
    np.testing.assert_array_equal(FeatureExtractor(FeatureConfig(dither=1.0))(silence, "utt1"), first)
    assert np.abs(extract(silence, "utt2") - first).mean() > 0.1


def test_dither_has_the_power_asked_for() -> None:
    config = FeatureConfig(dither=3.0, use_energy=True, remove_dc_offset=False)
    feats = FeatureExtractor(config)(Waveform(np.zeros(1600000, np.float32), 16000))
    assert abs(np.exp(feats[:, 0]).mean() / 400 - 9.0) < 0.1


def test_c0_is_the_scaled_sum_of_the_filter_bank() -> None:
    samples = noise(16000)
    log_mel = FeatureExtractor(FeatureConfig(kind="fbank"))(Waveform(samples, 16000))
    mfcc = FeatureExtractor(FeatureConfig(cepstral_lifter=0.0))(Waveform(samples, 16000))
    np.testing.assert_allclose(mfcc[:, 0], log_mel.sum(axis=1) / np.sqrt(23), atol=1e-3)


@pytest.mark.parametrize("backend", ["auto", "numpy"])
@pytest.mark.parametrize("cmvn", NORMALIZATIONS)
@pytest.mark.parametrize("order, window", [(0, 2), (2, 2), (3, 1), (1, 5)])
def test_full_features_at_once(backend: str, cmvn: str, order: int, window: int) -> None:
    config = FeatureConfig(cmvn=cmvn, delta_order=order, delta_window=window, backend=backend)
    extract = FeatureExtractor(config)
    waveform = Waveform(noise(16000), 16000)
    static = extract(waveform)
    stats = 2 * accumulate(static[:40])
    np.testing.assert_array_equal(extract.full(waveform, "", stats), full_features(static, stats, config))
