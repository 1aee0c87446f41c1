"""Static features against kaldi-native-fbank (Kaldi's C++ code) and against Kaldi's definitions in double precision."""

import numpy as np
import pytest

from asrkit.audio import AudioAccess, resample
from asrkit.features.config import FeatureConfig
from asrkit.features.mel import mel_filters
from asrkit.features.mfcc import FeatureExtractor
from asrkit.types import Waveform
from tests.backends import extractor_or_skip
from tests.shared import shared_or_skip

knf = pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")

CASES = {
    "defaults": {},
    "textbook 16 ms frames": {"frame_length_ms": 16.0, "frame_shift_ms": 8.0},
    "8 kHz": {"sample_rate": 8000, "high_hz": -200.0},
    "11.025 kHz": {"sample_rate": 11025},
    "22.05 kHz": {"sample_rate": 22050},
    "44.1 kHz": {"sample_rate": 44100, "num_mel_bins": 40},
    "48 kHz": {"sample_rate": 48000, "num_mel_bins": 30, "low_hz": 0.0},
    "frames on both edges": {"snip_edges": False},
    "frames on both edges, odd sizes": {"snip_edges": False, "sample_rate": 22050, "frame_shift_ms": 12.5},
    "no DC removal": {"remove_dc_offset": False},
    "no pre-emphasis": {"preemphasis": 0.0},
    "full pre-emphasis": {"preemphasis": 1.0},
    "hamming": {"window": "hamming"},
    "hanning": {"window": "hanning"},
    "rectangular": {"window": "rectangular"},
    "blackman": {"window": "blackman"},
    "sine": {"window": "sine"},
    "raw energy": {"use_energy": True},
    "windowed energy": {"use_energy": True, "raw_energy": False},
    "energy without DC removal": {"use_energy": True, "remove_dc_offset": False},
    "energy floor": {"use_energy": True, "energy_floor": 1e6},
    "more filters and cepstra": {"num_mel_bins": 40, "num_ceps": 40, "low_hz": 40.0, "high_hz": -400.0},
    "band-limited": {"low_hz": 300.0, "high_hz": 3400.0},
    "no lifter": {"cepstral_lifter": 0.0},
    "strong lifter": {"cepstral_lifter": 10.0},
    "filter bank": {"kind": "fbank", "num_mel_bins": 40},
    "filter bank with energy": {"kind": "fbank", "use_energy": True, "raw_energy": False},
    "filter bank with floored energy": {"kind": "fbank", "use_energy": True, "energy_floor": 1e6},
}


@pytest.fixture(params=["native", "numpy", "torchaudio"])
def backend(request: pytest.FixtureRequest) -> str:
    extractor_or_skip(FeatureConfig(backend=request.param))
    return request.param


def make_speech(sample_rate: int, seconds: float = 2.0) -> np.ndarray:
    """Something like speech: gliding harmonics and noise under a slow envelope, a DC offset, whole numbers."""
    rng = np.random.default_rng(7)
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 0.7 * time)) / sample_rate
    voiced = sum(np.sin(k * phase) / k for k in range(1, 20))
    envelope = np.clip(np.sin(2 * np.pi * 1.5 * time), 0, None)
    noise = rng.standard_normal(len(time))
    return np.round(4000 * envelope * voiced + (30 + 500 * envelope**4) * noise + 100).astype(np.float32)


def kaldi_feats(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    options = knf.MfccOptions() if config.kind == "mfcc" else knf.FbankOptions()
    frame, mel = options.frame_opts, options.mel_opts
    frame.samp_freq, frame.dither, frame.preemph_coeff = config.sample_rate, config.dither, config.preemphasis
    frame.frame_length_ms, frame.frame_shift_ms = config.frame_length_ms, config.frame_shift_ms
    frame.remove_dc_offset, frame.snip_edges = config.remove_dc_offset, config.snip_edges
    frame.window_type = config.window
    mel.num_bins, mel.low_freq, mel.high_freq = config.num_mel_bins, config.low_hz, config.high_hz
    options.use_energy, options.raw_energy = config.use_energy, config.raw_energy
    options.energy_floor = config.energy_floor
    if config.kind == "mfcc":
        options.num_ceps, options.cepstral_lifter = config.num_ceps, config.cepstral_lifter
    computer = knf.OnlineMfcc(options) if config.kind == "mfcc" else knf.OnlineFbank(options)
    computer.accept_waveform(config.sample_rate, samples)
    computer.input_finished()
    return np.array([computer.get_frame(t) for t in range(computer.num_frames_ready)])


def exact_feats(samples: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Kaldi's definitions, a frame at a time and in double precision, written for plainness alone."""
    signal = samples.astype(np.float64)
    length = int(config.sample_rate * config.frame_length_ms / 1000)
    shift = int(config.sample_rate * config.frame_shift_ms / 1000)
    fft_size = 2 ** int(np.ceil(np.log2(length)))
    epsilon = 2.0**-23

    cosine = np.cos(2 * np.pi * np.arange(length) / (length - 1))
    window = {
        "povey": (0.5 - 0.5 * cosine) ** 0.85,
        "hanning": 0.5 - 0.5 * cosine,
        "hamming": 0.54 - 0.46 * cosine,
        "rectangular": np.ones(length),
        "blackman": 0.42 - 0.5 * cosine + 0.08 * (2 * cosine**2 - 1),
        "sine": np.sin(np.pi * np.arange(length) / (length - 1)),
    }[config.window]

    def to_mel(hz: float) -> float:
        return 1127 * np.log(1 + hz / 700)

    top = config.high_hz if config.high_hz > 0 else config.sample_rate / 2 + config.high_hz
    low, step = to_mel(config.low_hz), (to_mel(top) - to_mel(config.low_hz)) / (config.num_mel_bins + 1)
    filters = np.zeros((config.num_mel_bins, fft_size // 2))
    for b in range(config.num_mel_bins):
        for k in range(fft_size // 2):
            distance = (to_mel(k * config.sample_rate / fft_size) - (low + (b + 1) * step)) / step
            filters[b, k] = max(0.0, 1 - abs(distance))

    if config.snip_edges:
        starts = range(0, len(signal) - length + 1, shift)
    else:
        num_frames = (len(signal) + shift // 2) // shift
        starts = [t * shift + shift // 2 - length // 2 for t in range(num_frames)]
    feats = []
    for start in starts:
        frame = np.empty(length)
        for i in range(length):
            at = start + i
            while not 0 <= at < len(signal):
                at = -at - 1 if at < 0 else 2 * len(signal) - 1 - at
            frame[i] = signal[at]
        if config.remove_dc_offset:
            frame -= frame.mean()
        energy = np.sum(frame**2)
        frame = (frame - config.preemphasis * np.concatenate([frame[:1], frame[:-1]])) * window
        if not config.raw_energy:
            energy = np.sum(frame**2)
        log_energy = np.log(max(energy, epsilon))
        if config.energy_floor > 0:
            log_energy = max(log_energy, np.log(config.energy_floor))
        power = np.abs(np.fft.rfft(frame, fft_size)[: fft_size // 2]) ** 2
        log_mel = np.log(np.maximum(filters @ power, epsilon))
        if config.kind == "fbank":
            feats.append(np.concatenate([[log_energy], log_mel]) if config.use_energy else log_mel)
            continue
        num = config.num_mel_bins
        row = np.empty(config.num_ceps)
        for c in range(config.num_ceps):
            row[c] = np.sqrt((2 if c else 1) / num) * np.sum(log_mel * np.cos(np.pi * c * (np.arange(num) + 0.5) / num))
            if config.cepstral_lifter > 0:
                row[c] *= 1 + 0.5 * config.cepstral_lifter * np.sin(np.pi * c / config.cepstral_lifter)
        if config.use_energy:
            row[0] = log_energy
        feats.append(row)
    return np.array(feats)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_static_features(settings: dict, backend: str) -> None:
    if (backend, settings.get("window")) == ("torchaudio", "sine"):
        pytest.skip("torchaudio has no sine window")
    config = FeatureConfig(**settings, backend=backend)
    samples = make_speech(config.sample_rate)
    feats = FeatureExtractor(config)(Waveform(samples, config.sample_rate))
    assert feats.dtype == np.float32

    expected = kaldi_feats(samples, config)
    assert feats.shape == expected.shape == (len(expected), config.num_static)
    assert np.abs(feats - expected).max() < 1e-3
    assert np.abs(feats - exact_feats(samples, config)).max() < 1e-3


@pytest.fixture(scope="module")
def speech() -> dict[int, list[Waveform]]:
    """Recorded speech by sampling rate. Its energy lies far apart over frequency: single precision shows there."""
    corpus = shared_or_skip("data/speechocean762")
    lines = sorted((corpus / "train" / "wav.scp").read_text(encoding="utf-8").split("\n"))
    entries = [line.split()[1] for line in lines if line][::40][:30]
    waveforms = [AudioAccess(corpus).load(entry) for entry in entries]
    return {rate: [resample(waveform, rate) for waveform in waveforms] for rate in (8000, 11025, 16000)}


def test_real_speech(speech: dict[int, list[Waveform]], backend: str) -> None:
    config = FeatureConfig(backend=backend)
    extract = FeatureExtractor(config)
    waveforms = speech[16000][::3]
    feats = np.concatenate([extract(waveform) for waveform in waveforms])
    difference = np.abs(feats - np.concatenate([kaldi_feats(waveform.samples, config) for waveform in waveforms]))
    assert np.quantile(difference, 0.999) < 6e-4
    assert difference.max() < 1e-2
    exact = np.concatenate([exact_feats(waveform.samples, config) for waveform in waveforms])
    assert np.abs(feats - exact).max() < 5e-3


# There is nothing above 8 kHz in that speech: what features make of empty bands is rounding alone.
SPEECH_CASES = {name: case for name, case in CASES.items() if case.get("sample_rate", 16000) <= 16000}


@pytest.mark.parametrize("settings", SPEECH_CASES.values(), ids=SPEECH_CASES.keys())
def test_options_on_real_speech(settings: dict, speech: dict[int, list[Waveform]]) -> None:
    config = FeatureConfig(**settings)
    extract = FeatureExtractor(config)
    differences = [
        np.abs(extract(waveform) - kaldi_feats(waveform.samples, config)).ravel()
        for waveform in speech[config.sample_rate]
    ]
    difference = np.concatenate(differences)
    assert np.quantile(difference, 0.999) < 6e-4
    assert difference.max() < 1e-2


@pytest.mark.parametrize("snip_edges", [True, False])
@pytest.mark.parametrize("num_samples", [400, 401, 559, 560, 561, 1519, 1520, 1680, 20720, 20721, 41200])
def test_any_number_of_samples(num_samples: int, snip_edges: bool, backend: str) -> None:
    """Around one frame, and around the ends of a block of frames."""
    config = FeatureConfig(snip_edges=snip_edges, backend=backend)
    samples = make_speech(16000, 3.0)[1000 : 1000 + num_samples]
    feats = FeatureExtractor(config)(Waveform(samples, 16000))
    expected = kaldi_feats(samples, config)
    assert feats.shape == expected.shape
    assert np.abs(feats - expected).max() < 1e-3


def test_audio_shorter_than_a_frame_is_reflected(backend: str) -> None:
    config = FeatureConfig(snip_edges=False, backend=backend)
    samples = make_speech(16000)[8000:8100]
    feats = FeatureExtractor(config)(Waveform(samples, 16000))
    assert feats.shape == (1, 13)
    assert np.abs(feats - kaldi_feats(samples, config)).max() < 1e-3


@pytest.mark.parametrize("use_energy", [True, False])
def test_digital_silence(use_energy: bool, backend: str) -> None:
    config = FeatureConfig(use_energy=use_energy, backend=backend)
    samples = np.zeros(4000, np.float32)
    feats = FeatureExtractor(config)(Waveform(samples, 16000))
    np.testing.assert_allclose(feats, kaldi_feats(samples, config), atol=1e-3)


@pytest.mark.parametrize(("sample_rate", "high_hz"), [(16000, 0.0), (8000, -200.0), (16000, -400.0)])
@pytest.mark.parametrize("warp", [0.8, 0.9, 1.07, 1.2])
def test_warped_mel_filters(sample_rate: int, high_hz: float, warp: float) -> None:
    config = FeatureConfig(sample_rate=sample_rate, high_hz=high_hz)
    frame, mel = knf.FrameExtractionOptions(), knf.MelBanksOptions()
    frame.samp_freq, mel.num_bins, mel.low_freq, mel.high_freq = sample_rate, 23, 20.0, high_hz
    expected = np.array(knf.MelBanks(mel, frame, warp).get_matrix())[:, : config.fft_size // 2]
    filters = mel_filters(23, config.fft_size, sample_rate, config.low_hz, config.top_hz, warp)
    np.testing.assert_allclose(filters.T, expected, atol=3e-5)
