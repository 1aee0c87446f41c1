"""Codecs: what reading the coded file gives, at the same times; bands, levels and G.711 by their definitions."""

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from asrkit.audio import read_audio
from asrkit.errors import ConfigError
from asrkit.training.codecs import CODECS, Codec, CodecName, check_codecs, set_level, telephone_band, to_int16
from asrkit.types import Waveform


def noise_bursts(num_samples: int, rate: int = 16000, seed: int = 1) -> Waveform:
    """Noise of 300 to 3000 Hz that comes and goes, so that no codec loses it and it has one place in time."""
    rng = np.random.default_rng(seed)
    band = scipy.signal.butter(4, (300, 3000), "bandpass", fs=rate, output="sos")
    noise = scipy.signal.sosfiltfilt(band, rng.standard_normal(num_samples + 200))[100:-100]
    return Waveform((8000 * noise * np.sin(np.arange(num_samples) * 40 / rate) ** 2).astype(np.float32), rate)


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize("name", CODECS)
def test_a_codec_keeps_length_and_times(name: CodecName, rate: int) -> None:
    for kbps, num_samples in ((12.0, 20011), (24.0, 16000), (48.0, 9999), (128.0, 12345)):
        waveform = noise_bursts(num_samples, rate)
        heard = CODECS[name](waveform, kbps)
        assert heard.sample_rate == rate
        assert heard.samples.shape == (num_samples,)
        assert heard.samples.dtype == np.float32
        correlation = scipy.signal.correlate(heard.samples, waveform.samples)
        assert abs(int(np.argmax(correlation)) - (num_samples - 1)) <= rate // 8000
        assert np.corrcoef(heard.samples, waveform.samples)[0, 1] > 0.5
        np.testing.assert_array_equal(heard.samples, CODECS[name](waveform, kbps).samples)


def write_coded(path: Path, codec: Codec, samples: np.ndarray, level: float | None) -> None:
    subtype = codec.subtype or "PCM_16"
    soundfile.write(
        path, samples, codec.sample_rate, subtype, format=codec.format, compression_level=level,
        bitrate_mode=codec.bitrate_mode,
    )  # fmt: skip


@pytest.mark.parametrize("name", CODECS)
def test_what_is_heard_is_what_reading_the_file_gives(name: CodecName, tmp_path: Path) -> None:
    codec, waveform = CODECS[name], noise_bursts(16000)
    sent = soxr.resample(waveform.samples, 16000, codec.sample_rate, quality="HQ")
    if codec.in_band:
        sent = telephone_band(Waveform(sent, codec.sample_rate))
    level = None if codec.kbps is None else (codec.kbps[0] - 48) / (codec.kbps[0] - codec.kbps[1])
    write_coded(tmp_path / "coded", codec, np.rint(sent).astype(np.int16), level)
    expected = read_audio(tmp_path / "coded", sample_rate=16000).samples
    assert len(expected) >= 16000
    np.testing.assert_array_equal(codec(waveform, 48.0).samples, expected[:16000])


def test_where_a_file_does_not_tell_its_delay_it_is_taken_back(tmp_path: Path) -> None:
    """MP3 of low rates: reading brings 1105 samples before the first, and as many are dropped in training."""
    codec, waveform = CODECS["mp3"], noise_bursts(16000)
    write_coded(tmp_path / "coded.mp3", codec, to_int16(waveform.samples), (160 - 16) / (160 - 8))
    read = read_audio(tmp_path / "coded.mp3").samples
    assert len(read) >= 16000 + codec.delay
    np.testing.assert_array_equal(codec(waveform, 16.0).samples, read[codec.delay : codec.delay + 16000])


def test_equal_samples_give_equal_files_with_sound_checksums() -> None:
    """libsndfile draws a serial number for each Ogg file, and drops the pages whose checksum is wrong."""
    samples = to_int16(noise_bursts(480000).samples)
    content = CODECS["opus"].encode(samples, 48)
    assert CODECS["opus"].encode(samples, 48) == content
    assert content.count(b"OggS") > 3
    assert len(soundfile.read(io.BytesIO(content))[0]) == len(samples)
    last = content.rindex(b"OggS")
    broken = content[: last + 22] + bytes([content[last + 22] ^ 1]) + content[last + 23 :]
    assert len(soundfile.read(io.BytesIO(broken))[0]) < len(samples)


def test_bit_rates_are_those_asked_for() -> None:
    samples = to_int16(noise_bursts(160000).samples)
    for name, kbps, tolerance in (("mp3", 16, 0.1), ("mp3", 48, 0.1), ("opus", 16, 0.4), ("opus", 48, 0.2)):
        assert len(CODECS[name].encode(samples, kbps)) * 8 / 10 / 1000 == pytest.approx(kbps, rel=tolerance)


def g711_mulaw(sample: int) -> int:
    """ITU-T G.711 by its definition: 14 bits, bias 33, eight segments of 16 steps that double in width."""
    magnitude = min(abs(sample) // 4, 8158) + 33
    segment = magnitude.bit_length() - 6
    step = (magnitude >> (segment + 1)) & 15
    decoded = ((2 * step + 33) << segment) - 33
    return 4 * decoded * (-1 if sample < 0 else 1)


def test_mulaw_is_g711s() -> None:
    samples = np.arange(-32768, 32768)
    coded = CODECS["mulaw"](Waveform(samples.astype(np.float32), 8000), 0.0).samples
    expected = np.array([g711_mulaw(int(sample)) for sample in samples])
    # A sample between two segments may go to either of the two next values.
    off = np.abs(coded - expected)
    step = np.maximum(np.abs(expected) / 16, 8)
    assert (off <= step).all()
    assert np.mean(off == 0) > 0.97
    assert set(np.abs(coded)) <= set(np.abs(expected))


def band_levels(samples: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    hz, power = scipy.signal.welch(samples, rate, nperseg=2048)
    return hz, 10 * np.log10(power + 1e-20)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_telephone_passes_300_to_3400_hz(rate: int) -> None:
    white = (1000 * np.random.default_rng(1).standard_normal(100_000)).astype(np.float32)
    heard = telephone_band(Waveform(white, rate))
    hz, level = band_levels(heard, rate)
    _, before = band_levels(white, rate)
    change = level - before
    passed = (hz > 320) & (hz < 3380)
    assert np.abs(change[passed]).max() < 0.5
    assert change[(hz > 10) & (hz < 130)].max() < -40
    assert change[(hz > 3880) & (hz < rate / 2 - 10)].max(initial=-99.0) < -40
    assert np.argmax(scipy.signal.correlate(heard, white)) == len(white) - 1


@pytest.mark.parametrize("name", ["8khz", "mulaw", "telephone", "gsm"])
def test_nothing_is_left_above_4_khz(name: CodecName) -> None:
    white = (3000 * np.random.default_rng(1).standard_normal(50_000)).astype(np.float32)
    hz, level = band_levels(CODECS[name](Waveform(white, 16000), 0.0).samples, 16000)
    _, before = band_levels(white, 16000)
    assert (level - before)[hz > 4100].max() < -80


@pytest.mark.parametrize("peak_db", [-40.0, -30.0, 0.0, 6.0])
def test_the_level_is_that_of_the_loudest_sample(peak_db: float) -> None:
    samples = noise_bursts(20000).samples
    heard = set_level(samples, peak_db)
    assert heard.dtype == np.float32
    np.testing.assert_array_equal(heard, np.rint(heard))
    ideal = samples / np.abs(samples).max() * 32767 * 10 ** (peak_db / 20)
    np.testing.assert_allclose(heard, np.clip(ideal, -32768, 32767), atol=0.51)
    assert np.abs(heard).max() == pytest.approx(32767 * min(10 ** (peak_db / 20), 1), abs=1)
    assert (np.mean(np.abs(heard) >= 32767) > 0.001) == (peak_db > 0)
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(set_level(silence, peak_db), silence)


@pytest.mark.parametrize("name", CODECS)
def test_a_few_samples_silence_and_full_scale(name: CodecName) -> None:
    for samples in (np.ones(1), np.zeros(3), np.zeros(401), np.full(999, 40000.0), np.full(17, -1e6)):
        heard = CODECS[name](Waveform(samples.astype(np.float32), 16000), 24.0).samples
        assert heard.shape == samples.shape
        assert np.isfinite(heard).all()


def test_a_codec_that_libsndfile_cannot_write_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_codecs(CODECS)
    monkeypatch.setattr(soundfile, "check_format", lambda format, subtype: format != "MP3")
    with pytest.raises(
        ConfigError, match=r"training\.augment\.codecs: libsndfile .* cannot write mp3; install a newer"
    ):
        check_codecs(CODECS)
    check_codecs(["8khz", "opus"])
