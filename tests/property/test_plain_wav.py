"""The quick way to read 16-bit WAV files: what libsndfile would give, and its errors, for sound and damaged files."""

import io
import struct
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asrkit.audio import AudioAccess, Channel, read
from asrkit.audio.wav import plain_wav
from asrkit.errors import AudioError


def make_wav(num_frames: int, num_channels: int, chunks: list[tuple[bytes, int]], after: bytes) -> bytes:
    """A WAV file with chunks (name, size) before `data`, and bytes after it."""
    rng = np.random.default_rng(num_frames)
    data = rng.integers(-32768, 32768, (num_frames, num_channels)).astype("<i2").tobytes()
    fmt = struct.pack("<HHIIHH", 1, num_channels, 16000, 32000 * num_channels, 2 * num_channels, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    for name, size in chunks:
        body += name + struct.pack("<I", size) + bytes(size + size % 2)
    body += b"data" + struct.pack("<I", len(data)) + data + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


chunks = st.lists(st.tuples(st.sampled_from([b"LIST", b"fact", b"junk", b"bext"]), st.integers(0, 30)), max_size=2)
wavs = st.builds(
    make_wav, st.integers(0, 50), st.integers(1, 3), chunks, st.sampled_from([b"", b"\0", b"LIST\4\0\0\0abcd"])
)


def outcome(path: Path, channel: Channel, **part: float) -> np.ndarray | str:
    try:
        waveform = AudioAccess(channel=channel).load(str(path), **part)
    except AudioError as error:
        return str(error)
    assert waveform.samples.dtype == np.float32
    assert waveform.samples.flags.c_contiguous
    return np.append(waveform.samples, waveform.sample_rate)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wavs,
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=2),
    st.integers(0, 60),
    st.sampled_from(["error", "mix", 0, 1]),
    st.sampled_from([{}, {"start": 0.001}, {"start": 0.0005, "end": 0.002}]),
)
def test_the_same_as_the_long_way(
    tmp_path: Path, content: bytes, damage: list[tuple[int, int]], cut: int, channel: Channel, part: dict
) -> None:
    damaged = bytearray(content)
    for place, value in damage:
        if place < len(damaged):
            damaged[place] = value
    path = tmp_path / "a.wav"
    path.write_bytes(damaged[: len(damaged) - (cut if cut > 40 else 0)] or b"\0")
    with mock.patch.object(read, "plain_wav", return_value=None):
        expected = outcome(path, channel, **part)
    found = outcome(path, channel, **part)
    if isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("num_channels", [1, 2])
def test_it_is_taken(num_channels: int, tmp_path: Path) -> None:
    """Files as soundfile and this module's own generator write them take the quick way; other codings do not."""
    samples = np.random.default_rng(0).integers(-32768, 32768, (1000, num_channels)).astype(np.int16)
    for subtype, quick in (("PCM_16", True), ("PCM_24", False), ("FLOAT", False)):
        stream = io.BytesIO()
        soundfile.write(stream, samples, 16000, subtype, format="WAV")
        size = len(stream.getvalue())
        stream.seek(0)
        assert (plain_wav(stream, "a.wav", size) is not None) == quick
    path = tmp_path / "a.wav"
    path.write_bytes(make_wav(50, num_channels, [], b"after"))
    with open(path, "rb") as stream:
        source = plain_wav(stream, "a.wav", path.stat().st_size)
        expected, _ = soundfile.read(path, dtype="int16", always_2d=True)
        np.testing.assert_array_equal(source.read(0, 50), expected)
        np.testing.assert_array_equal(source.read(7, 20), expected[7:20])
