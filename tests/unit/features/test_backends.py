"""What is particular to each backend. That they follow Kaldi is checked in tests/golden/test_features_kaldi.py."""

import pickle
import subprocess
import sys
from dataclasses import replace

import librosa
import numpy as np
import pytest

from asrkit._native import kernel
from asrkit.errors import AudioError, ConfigError, MissingPackageError
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.types import Waveform
from tests.backends import extractor_or_skip


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1000, num_samples).astype(np.float32)


def test_the_default_is_the_kernel_where_it_is_built() -> None:
    assert FeatureExtractor(FeatureConfig()).backend == ("numpy" if kernel("_mfcc") is None else "native")
    assert FeatureExtractor(FeatureConfig(backend="numpy")).backend == "numpy"


def test_an_extractor_survives_the_way_to_another_process() -> None:
    extract = FeatureExtractor(FeatureConfig(dither=1.0))
    copy = pickle.loads(pickle.dumps(extract))
    waveform = Waveform(noise(8000), 16000)
    np.testing.assert_array_equal(copy(waveform, "utt1"), extract(waveform, "utt1"))


@pytest.mark.parametrize("name", ["torchaudio", "librosa"])
def test_a_library_that_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, f"{name}.compliance", None)
    with pytest.raises(MissingPackageError, match=rf"^needs {name}, .*install 'asrkit-phones\[train\]'$"):
        FeatureExtractor(FeatureConfig(backend=name))


def test_no_backend_loads_more_than_it_needs() -> None:
    code = (
        "import sys, asrkit.features.extract, asrkit.features.stream\n"
        "from asrkit.features.config import FeatureConfig\n"
        "from asrkit.features.mfcc import FeatureExtractor\n"
        "FeatureExtractor(FeatureConfig()), FeatureExtractor(FeatureConfig(backend='numpy'))\n"
        "print([name for name in ('torch', 'torchaudio', 'librosa', 'numba', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("backend", ["auto", "numpy", "torchaudio", "librosa"])
def test_samples_that_are_not_finite(backend: str) -> None:
    extract = extractor_or_skip(FeatureConfig(backend=backend))
    for value, found in ((np.nan, "1 samples are NaN"), (-np.inf, "1 samples are NaN"), (1e30, "as large as 1e\\+30")):
        samples = noise(8000)
        samples[4000] = value
        with pytest.raises(AudioError, match=f"utt1: .*{found}"):
            extract(Waveform(samples, 16000), "utt1")
        with pytest.raises(AudioError, match=f"utt1: .*{found}"):
            extract.batch([Waveform(noise(8000), 16000), Waveform(samples, 16000)], ["utt0", "utt1"])


@pytest.mark.parametrize("snip_edges", [True, False])
def test_torchaudio_batches(snip_edges: bool) -> None:
    """Utterances side by side give what they give alone, dither too, whatever their lengths."""
    extract = extractor_or_skip(
        FeatureConfig(backend="torchaudio", snip_edges=snip_edges, dither=1.0, frame_shift_ms=9.7)
    )
    waveforms = [Waveform(noise(400 + 371 * n, n), 16000) for n in range(20)]
    utt_ids = [f"utt{n}" for n in range(20)]
    batch = extract.batch(waveforms, utt_ids)
    assert extract.batch_size > 1
    for waveform, utt_id, feats in zip(waveforms, utt_ids, batch, strict=True):
        alone = extract(waveform, utt_id)
        assert feats.shape == alone.shape == (extract.num_frames(len(waveform.samples)), 13)
        np.testing.assert_allclose(feats, alone, atol=1e-3)
        expected = FeatureExtractor(replace(extract.config, backend="numpy"))(waveform, utt_id)
        np.testing.assert_allclose(feats, expected, atol=5e-3)


def test_torchaudio_has_no_sine_window() -> None:
    extractor_or_skip(FeatureConfig(backend="torchaudio"))
    with pytest.raises(ConfigError, match=r"features\.window: sine, which torchaudio lacks"):
        FeatureExtractor(FeatureConfig(backend="torchaudio", window="sine"))


def test_librosa_defaults_are_matched() -> None:
    """librosa.feature.mfcc as it comes; sizes of frames are given in milliseconds here."""
    config = FeatureConfig(
        backend="librosa",
        sample_rate=22050,
        frame_length_ms=92.88,
        frame_shift_ms=23.22,
        window="hanning",
        preemphasis=0.0,
        snip_edges=False,
        num_mel_bins=128,
        low_hz=0.0,
        num_ceps=20,
        cepstral_lifter=0.0,
    )
    assert (config.frame_length, config.frame_shift, config.fft_size) == (2048, 512, 2048)
    samples = noise(30000)
    feats = FeatureExtractor(config)(Waveform(samples, 22050))
    expected = librosa.feature.mfcc(y=samples / np.float32(32768), sr=22050, n_mfcc=20, n_mels=128).T
    np.testing.assert_array_equal(feats, expected)

    log_mel = FeatureExtractor(replace(config, kind="fbank"))(Waveform(samples, 22050))
    expected = librosa.power_to_db(librosa.feature.melspectrogram(y=samples / np.float32(32768), sr=22050)).T
    np.testing.assert_array_equal(log_mel, expected)


@pytest.mark.parametrize("window", ["povey", "hamming", "rectangular", "blackman", "sine"])
@pytest.mark.parametrize("snip_edges", [True, False])
def test_librosa_frames(window: str, snip_edges: bool) -> None:
    extract = FeatureExtractor(FeatureConfig(backend="librosa", window=window, snip_edges=snip_edges, dither=1.0))
    for num_samples in (512, 671, 672, 20000):
        feats = extract(Waveform(noise(num_samples), 16000), "utt1")
        assert feats.shape == (extract.num_frames(num_samples), 13)
        assert feats.flags.c_contiguous
    if snip_edges:
        with pytest.raises(AudioError, match=r"utt1: 511 samples .* expected one frame or more, 512 samples"):
            extract(Waveform(noise(511), 16000), "utt1")


def test_what_librosa_lacks() -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureExtractor(FeatureConfig(backend="librosa", use_energy=True, energy_floor=1.0))
    assert str(caught.value).split("\n") == [
        "features.use_energy: True, which librosa lacks; expected False, or another backend",
        "features.energy_floor: 1.0, which librosa lacks; expected 0.0, or another backend",
    ]


@pytest.mark.parametrize("backend", ["native", "numpy"])
@pytest.mark.parametrize("warp", [0.85, 1.15])
def test_warped_filters_move_a_tone(backend: str, warp: float) -> None:
    """A tone of f Hz looks through filters warped by w as one of f * w Hz looks through plain ones."""
    config = FeatureConfig(kind="fbank", num_mel_bins=30, backend=backend)
    extractor_or_skip(config)
    phase = 2 * np.pi * np.arange(8000) / 16000
    tones = [Waveform((1000 * np.sin(hz * phase)).astype(np.float32), 16000) for hz in (1000, 1000 * warp)]
    warped = FeatureExtractor(config, warp)(tones[0])
    plain = FeatureExtractor(config)(tones[1])
    assert (warped.argmax(axis=1) == plain.argmax(axis=1)).all()
    assert not np.allclose(warped, FeatureExtractor(config)(tones[0]), atol=1)
    other = FeatureExtractor(replace(config, backend="numpy"), warp)(tones[0])
    np.testing.assert_allclose(warped, other, atol=2e-2)
    copy = pickle.loads(pickle.dumps(FeatureExtractor(config, warp)))
    np.testing.assert_array_equal(copy(tones[0]), warped)


def test_warps_that_cannot_be_had() -> None:
    with pytest.raises(ConfigError, match=r"num_mel_bins: 103; expected fewer: 1 of the filters .* warped by 1.2"):
        FeatureExtractor(FeatureConfig(num_mel_bins=103), 1.2)
    with pytest.raises(ConfigError, match="librosa does not warp frequencies"):
        FeatureExtractor(FeatureConfig(backend="librosa"), 1.1)
