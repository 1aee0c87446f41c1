"""Sampling rates in headers: those that recordings have are read, and what any file grows to is bounded."""

import struct

import numpy as np
import pytest

from asrkit.audio import audio_info, open_audio, read_audio, resample
from asrkit.audio.source import MAX_RATE, MAX_RATE_RATIO, MIN_RATE, check_rate
from asrkit.errors import AudioError
from asrkit.types import Waveform
from tests.audio_bytes import encode, patched, speechlike


def with_rate(container, rate):
    """A file of 1000 samples whose header says `rate` (Hz)."""
    if container == "SPHERE":
        fields = ("channel_count -i 1", f"sample_rate -i {rate}", "sample_n_bytes -i 2", "sample_byte_format -s2 01")
        head = "\n".join(("NIST_1A", "   1024", *fields, "sample_coding -s3 pcm", "end_head")) + "\n"
        return head.encode().ljust(1024) + bytes(2000)
    place, form = {"WAV": (24, "<I"), "AU": (16, ">I"), "WAVEX": (24, "<I")}[container]
    return patched(encode(speechlike(1000), container, "PCM_16"), [(place, struct.pack(form, rate))])


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "AU", "SPHERE"])
@pytest.mark.parametrize("rate", [1, 999, 1_000_001, 2**31 - 1])
def test_rates_that_no_recording_has(tmp_path, container, rate):
    path = tmp_path / "x"
    path.write_bytes(with_rate(container, rate))
    expected = f"{path}: a sampling rate of {rate} Hz; expected 1000 to 1000000 Hz; correct the rate"
    for read in (audio_info, read_audio):
        with pytest.raises(AudioError) as caught:
            read(path)
        assert str(caught.value).startswith(expected) or "Sample rate" in str(caught.value)
        assert str(path) in str(caught.value)
    with pytest.raises(AudioError), open_audio(path):
        pass


def test_a_rate_of_more_than_64_bits(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(with_rate("SPHERE", 10**30))
    with pytest.raises(AudioError, match=f"sample_rate is {10**30}; expected a positive number"):
        read_audio(path)


@pytest.mark.parametrize("rate", [MIN_RATE, 3906, 8000, 11025, 44100, 192_000, 384_000, 768_000, MAX_RATE])
def test_rates_that_recordings_have(tmp_path, rate):
    path = tmp_path / "x"
    path.write_bytes(with_rate("WAV", rate))
    assert audio_info(path).sample_rate == rate
    assert len(read_audio(path, sample_rate=16000).samples) == pytest.approx(1000 * 16000 / rate, abs=1)


def test_growth_by_resampling_is_bounded(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(with_rate("WAV", 1000))
    highest = 1000 * MAX_RATE_RATIO
    assert len(read_audio(path, sample_rate=highest).samples) == pytest.approx(1000 * MAX_RATE_RATIO, abs=1)
    message = (
        f"{path}: a sampling rate of 1000 Hz, which cannot be changed to {highest + 1} Hz; expected at least 1001 Hz"
    )
    with pytest.raises(AudioError, match=message):
        read_audio(path, sample_rate=highest + 1)
    with open_audio(path) as stream, pytest.raises(AudioError, match=message):
        next(stream.blocks(highest + 1))


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -16000, 0, 0.5])
def test_rates_of_arrays(rate):
    with pytest.raises(AudioError, match="u1: a sampling rate of"):
        check_rate(rate, "u1")
    with pytest.raises(AudioError, match="u1: a sampling rate of"):
        resample(Waveform(np.zeros(10, np.float32), rate), 16000, "u1")
