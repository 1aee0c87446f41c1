"""Reading audio: values against what was written and against libsndfile, and one clear error for each bad file."""

import io
import os
import struct

import kaldi_native_io
import numpy as np
import pytest
import soundfile

from asrkit.audio import AudioAccess, audio_duration, open_audio, read_audio, sndfile, source
from asrkit.errors import AudioError
from tests.shared import shared_or_skip

RATE = 16000


def noise(num_samples=4001, channels=1, scale=0.3):
    return np.random.default_rng(1).uniform(-scale, scale, (num_samples, channels)).astype(np.float32)


def error_of(function, *args, **kwargs):
    """The message, which must be a single line."""
    with pytest.raises(AudioError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Full-scale steps of each width, and what they are on the int16 scale.
WIDTHS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


@pytest.mark.parametrize(
    ("container", "subtype", "order"),
    [
        ("WAV", "PCM_U8", "FILE"),
        ("WAV", "PCM_16", "FILE"),
        ("WAV", "PCM_16", "BIG"),
        ("WAV", "PCM_24", "FILE"),
        ("WAV", "PCM_32", "FILE"),
        ("RF64", "PCM_16", "FILE"),
        ("FLAC", "PCM_16", "FILE"),
        ("FLAC", "PCM_24", "FILE"),
        ("AIFF", "PCM_16", "FILE"),
        ("NIST", "PCM_S8", "FILE"),
        ("NIST", "PCM_16", "LITTLE"),
        ("NIST", "PCM_16", "BIG"),
        ("NIST", "PCM_24", "LITTLE"),
        ("NIST", "PCM_24", "BIG"),
        ("NIST", "PCM_32", "LITTLE"),
        ("NIST", "PCM_32", "BIG"),
    ],
)
def test_integers_on_the_int16_scale(tmp_path, container, subtype, order):
    bits = WIDTHS[subtype]
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    steps = np.array([0, 1, -1, low, high, low + 1, 3 << (bits - 4), 7], np.int64)
    written = (steps << (32 - bits)).astype(np.int32)  # libsndfile keeps the upper bits
    soundfile.write(tmp_path / "x", written, RATE, format=container, subtype=subtype, endian=order)
    found = read_audio(tmp_path / "x")
    assert found.samples.dtype == np.float32
    assert found.sample_rate == RATE
    np.testing.assert_array_equal(found.samples, (steps * 2.0 ** (16 - bits)).astype(np.float32))


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats(tmp_path, subtype):
    written = np.array([0, 0.5, -1, 1, 1.5, 1e-6])
    soundfile.write(tmp_path / "x.wav", written, RATE, subtype=subtype)
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav").samples, (written * 32768).astype(np.float32))


@pytest.mark.parametrize("coding", ["ULAW", "ALAW"])
def test_sphere_logarithmic(tmp_path, coding):
    """All 256 codes, against libsndfile's expansion of the same codes."""
    codes = bytes(range(256))
    expected, _ = soundfile.read(
        io.BytesIO(codes), dtype="int16", format="RAW", subtype=coding, samplerate=8000, channels=1
    )
    (tmp_path / "x.sph").write_bytes(sphere(codes, sample_coding=coding.lower(), sample_n_bytes=1, sample_count=256))
    np.testing.assert_array_equal(read_audio(tmp_path / "x.sph").samples, expected.astype(np.float32))


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"])
@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_sphere_as_libsndfile(tmp_path, subtype, order):
    path = tmp_path / "x.sph"
    soundfile.write(path, noise(channels=3), 22050, format="NIST", subtype=subtype, endian=order)
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    for channel in range(3):
        found = read_audio(path, channel=channel)
        assert found.sample_rate == 22050
        np.testing.assert_array_equal(found.samples, expected[:, channel] * 32768)
    assert audio_duration(path) == 4001 / 22050


def test_wav_as_kaldi(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(channels=2), RATE, subtype="PCM_16")
    expected = np.array(kaldi_native_io.read_wave(str(tmp_path / "x.wav")).data)
    for channel in range(2):
        np.testing.assert_array_equal(read_audio(tmp_path / "x.wav", channel=channel).samples, expected[channel])


@pytest.mark.parametrize(
    ("ending", "container", "subtype", "tolerance"),
    [
        ("flac", "FLAC", "PCM_16", 1e-4),
        ("ogg", "OGG", "VORBIS", 0.1),
        ("opus", "OGG", "OPUS", 0.1),
        ("mp3", "MP3", "MPEG_LAYER_III", 0.1),
        ("w64", "W64", "PCM_16", 1e-4),
        ("raw", "WAV", "PCM_16", 1e-4),  # the content tells, not the ending
        ("txt", "WAV", "IMA_ADPCM", 0.1),
    ],
)
@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_lossy_and_lossless_codecs(tmp_path, ending, container, subtype, tolerance, rate):
    time = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time)
    path = tmp_path / f"x.{ending}"
    soundfile.write(path, tone, rate, format=container, subtype=subtype)
    found = read_audio(path)
    assert found.sample_rate == rate
    # ADPCM comes in whole blocks of samples.
    assert rate <= len(found.samples) < rate + (1100 if "ADPCM" in subtype else 1)
    assert audio_duration(path) == found.duration
    middle = slice(rate // 4, rate // 2)
    assert np.abs(found.samples[middle] / 32768 - tone[middle]).max() < tolerance


@pytest.mark.parametrize(
    ("source", "wanted"), [(44100, 16000), (22050, 16000), (8000, 16000), (16000, 8000), (48000, 16000)]
)
def test_resampling(tmp_path, source, wanted):
    """A tone below both Nyquist rates keeps its phase and level; one above the new rate's half vanishes."""
    num_samples = source + 13
    time = np.arange(num_samples) / source
    soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), source, subtype="FLOAT")
    found = read_audio(tmp_path / "x.wav", sample_rate=wanted)
    assert found.sample_rate == wanted
    assert abs(len(found.samples) - num_samples * wanted / source) <= 1
    expected = 16384 * np.sin(2 * np.pi * 1000 * np.arange(len(found.samples)) / wanted)
    middle = slice(wanted // 4, 3 * wanted // 4)
    assert np.abs(found.samples - expected)[middle].max() < 2
    if source > wanted:
        soundfile.write(tmp_path / "x.wav", 0.5 * np.sin(2 * np.pi * 0.48 * source * time), source, subtype="FLOAT")
        assert np.abs(read_audio(tmp_path / "x.wav", sample_rate=wanted).samples[middle]).max() < 2


def test_channels(tmp_path):
    path = tmp_path / "x.wav"
    written = noise(channels=2)
    soundfile.write(path, written, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(path, channel=0).samples, written[:, 0] * 32768)
    np.testing.assert_array_equal(read_audio(path, channel=1).samples, written[:, 1] * 32768)
    mixed = read_audio(path, channel="mix").samples
    np.testing.assert_allclose(mixed, written.astype(np.float64).mean(axis=1) * 32768, rtol=1e-6, atol=1e-3)
    assert "2 channels; expected 1" in error_of(read_audio, path)
    for channel in (2, -1):
        assert f"no channel {channel}; the file has 2" in error_of(read_audio, path, channel=channel)


def test_one_hundredth_of_a_second_is_audio(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(160), RATE)
    assert len(read_audio(tmp_path / "x.wav").samples) == 160


# Bad files


def test_no_file_to_read(tmp_path):
    assert error_of(read_audio, tmp_path) == f"{tmp_path}: a directory; expected an audio file"
    assert "no such audio file" in error_of(read_audio, tmp_path / "none.wav")
    assert "no such audio file" in error_of(read_audio, tmp_path / "none.wav" / "below")
    (tmp_path / "empty.wav").touch()
    assert "empty file (0 bytes)" in error_of(read_audio, tmp_path / "empty.wav")
    (tmp_path / "text.wav").write_text("hello world\n" * 50)
    assert "text.wav: not audio" in error_of(read_audio, tmp_path / "text.wav")
    os.mkfifo(tmp_path / "fifo.wav")
    assert "not a regular file" in error_of(read_audio, tmp_path / "fifo.wav")
    assert "cannot be read" in error_of(read_audio, "nul\0byte.wav")


def test_no_samples(tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(0, np.float32), RATE)
    assert "no samples" in error_of(read_audio, tmp_path / "x.wav")
    assert "no samples" in error_of(audio_duration, tmp_path / "x.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, value):
    written = noise()
    written[[800, 900]] = value
    soundfile.write(tmp_path / "x.wav", written, RATE, subtype="FLOAT")
    message = error_of(read_audio, tmp_path / "x.wav")
    assert "2 of 4001 samples are NaN or infinite, the first at 0.050 s" in message


@pytest.mark.parametrize(
    ("container", "subtype", "frame_bytes"),
    [
        ("WAV", "PCM_U8", 2),
        ("WAV", "PCM_16", 4),
        ("WAV", "FLOAT", 8),
        ("WAVEX", "PCM_24", 6),
        ("RF64", "PCM_16", 4),
        ("NIST", "PCM_16", 4),
        ("NIST", "ULAW", 2),
    ],
)
def test_header_promises_more(tmp_path, container, subtype, frame_bytes):
    soundfile.write(tmp_path / "whole", noise(1000, channels=2), RATE, format=container, subtype=subtype)
    content = (tmp_path / "whole").read_bytes()
    for missing in (1, 300, 999):
        (tmp_path / "cut").write_bytes(content[: len(content) - missing * frame_bytes])
        expected = f"the header promises 1000 samples, the file holds {1000 - missing}"
        assert expected in error_of(read_audio, tmp_path / "cut", channel="mix")
        assert expected in error_of(audio_duration, tmp_path / "cut")
        assert expected in error_of(AudioAccess(channel=0).load, str(tmp_path / "cut"), start=0.0, end=0.0001)
    # A part of a frame is not a frame.
    (tmp_path / "cut").write_bytes(content[:-1])
    assert "promises 1000 samples, the file holds 999" in error_of(read_audio, tmp_path / "cut", channel="mix")


def test_block_coded_wav_cut_short(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(20000), RATE, subtype="MS_ADPCM")
    promised = soundfile.info(tmp_path / "x.wav").frames
    content = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(content[: len(content) // 2])
    held = soundfile.info(tmp_path / "x.wav").frames  # libsndfile says what is left
    message = error_of(read_audio, tmp_path / "x.wav")
    assert f"promises {promised} samples" in message
    assert 0 < held < promised and abs(int(message.split("holds ")[1].split(";")[0]) - held) < 1000


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_other_files_cut_short(tmp_path, container, subtype):
    soundfile.write(tmp_path / "x", noise(50000), RATE, format=container, subtype=subtype)
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(content[: len(content) // 2])
    assert "promises 50000 samples" in error_of(read_audio, tmp_path / "x")


@pytest.mark.parametrize(
    ("riff_size", "data_size"),
    [
        (0, 0),
        (36, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x7FFFF024, 0x7FFFF000),
        (0x7FFFFFFF, 0x7FFFFFFF),
        (0x80000024, 0x80000000),
    ],
)
def test_streamed_wav_is_read_to_its_end(tmp_path, riff_size, data_size):
    """Writers that cannot go back leave place-holders in the header; Kaldi's pipes are full of them."""
    samples = (noise(1000)[:, 0] * 32767).astype(np.int16)
    content = wav_bytes(samples, riff_size, data_size)
    (tmp_path / "x.wav").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav").samples, samples)
    assert audio_duration(tmp_path / "x.wav") == 1000 / RATE
    (tmp_path / "x.wav").write_bytes(content[:44])
    assert "x.wav: no samples" in error_of(read_audio, tmp_path / "x.wav") or "promises" in error_of(
        read_audio, tmp_path / "x.wav"
    )


def test_chunks_around_the_data(tmp_path):
    samples = np.arange(7, dtype=np.int16)
    plain = wav_bytes(samples, 0, 14)
    extra = b"LIST" + struct.pack("<I", 5) + b"INFOx\0"
    content = plain[:12] + extra + plain[12:] + extra
    (tmp_path / "x.wav").write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav").samples, samples)


@pytest.mark.parametrize("length", [12, 20, 36, 43])
def test_wav_header_cut_short(tmp_path, length):
    (tmp_path / "x.wav").write_bytes(wav_bytes(np.zeros(9, np.int16), 54, 18)[:length])
    assert "x.wav: " in error_of(read_audio, tmp_path / "x.wav")


def test_garbage_never_escapes_as_another_error(tmp_path):
    """Damaged headers give an AudioError or audio, whatever byte is wrong."""
    random = np.random.default_rng(7)
    good = [wav_bytes(np.arange(50, dtype=np.int16), 136, 100), sphere(np.arange(50, dtype="<i2").tobytes())]
    outcomes = set()
    for content in good:
        for _ in range(150):
            damaged = bytearray(content)
            for position in random.integers(0, min(len(content), 200), 3):
                damaged[position] = random.integers(256)
            (tmp_path / "x").write_bytes(damaged)
            try:
                read_audio(tmp_path / "x", channel="mix")
                outcomes.add("read")
            except AudioError as error:
                outcomes.add("refused")
                assert "\n" not in str(error)
    assert outcomes == {"read", "refused"}


# SPHERE headers


def sphere(data, header_bytes=1024, **fields):
    defaults = {
        "channel_count": 1,
        "sample_count": 50,
        "sample_rate": RATE,
        "sample_n_bytes": 2,
        "sample_byte_format": "01",
        "sample_coding": "pcm",
    }
    lines = ["NIST_1A", f"{header_bytes:7d}"]
    for key, value in {**defaults, **fields}.items():
        if value is not None:
            lines.append(f"{key} -i {value}" if isinstance(value, int) else f"{key} -s{len(value)} {value}")
    return "\n".join([*lines, "end_head", ""]).encode().ljust(header_bytes) + data


def wav_bytes(samples, riff_size, data_size):
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff_size, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return head + b"data" + struct.pack("<I", data_size) + samples.astype("<i2").tobytes()


def test_sphere_headers(tmp_path):
    samples = np.arange(-25, 25, dtype="<i2")
    path = tmp_path / "x.wav"
    # What TIMIT's headers hold, a longer header, and a count that is missing.
    for content in (
        sphere(samples.tobytes(), database_id="TIMIT", sample_min=-2000, sample_sig_bits=16, speaker_id="aks0"),
        sphere(samples.tobytes(), header_bytes=2048),
        sphere(samples.tobytes(), sample_count=None, sample_coding=None, channel_count=None),
    ):
        path.write_bytes(content)
        np.testing.assert_array_equal(read_audio(path).samples, samples)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sample_coding": "pcm,embedded-shorten-v2.00"}, "compressed with shorten"),
        ({"sample_coding": "pcm,embedded-wavpack-v1"}, "compressed with wavpack"),
        ({"sample_coding": "vendor42"}, "sample_coding vendor42"),
        ({"sample_rate": None}, "sample_rate is missing"),
        ({"sample_rate": "fast"}, "sample_rate is fast"),
        ({"sample_rate": 0}, "sample_rate is 0"),
        ({"channel_count": -1}, "channel_count is -1"),
        ({"sample_n_bytes": None}, "sample_n_bytes is missing"),
        ({"sample_n_bytes": 5}, "samples of 5 bytes"),
        ({"sample_byte_format": None}, "sample_byte_format missing; expected 01 or 10"),
        ({"sample_byte_format": "0123"}, "sample_byte_format 0123"),
        ({"sample_count": 51}, "promises 51 samples, the file holds 50"),
        ({"sample_count": 0}, "no samples"),
        ({"sample_count": -3}, "sample_count is -3; expected a positive number"),
        ({"header_bytes": 64}, "no `end_head` within its 64 bytes"),
    ],
)
def test_sphere_headers_refused(tmp_path, fields, expected):
    (tmp_path / "x.wav").write_bytes(sphere(bytes(100), **fields))
    assert expected in error_of(read_audio, tmp_path / "x.wav")


# Entries of wav.scp


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("NIST", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_segments_are_slices(tmp_path, container, subtype):
    soundfile.write(tmp_path / "x", noise(32000), RATE, format=container, subtype=subtype)
    whole = read_audio(tmp_path / "x").samples
    assert len(whole) == 32000
    for start, end in ((0.0, 0.5), (0.7, 1.3), (1.9999, 2.0), (0.123456, 1.000031), (None, 0.25), (1.5, None)):
        found = AudioAccess(tmp_path).load("x", start=start, end=end)
        first, last = round((start or 0) * RATE), 32000 if end is None else round(end * RATE)
        np.testing.assert_array_equal(found.samples, whole[first:last])


def test_segments_outside(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(32000), RATE)
    entry = str(tmp_path / "x.wav")
    assert len(AudioAccess().load(entry, start=1.0, end=2.01).samples) == 16000  # rounding: to the end
    assert "ends past the audio, which has 2.000 s" in error_of(AudioAccess().load, entry, start=1.0, end=2.02)
    assert "ends past the audio" in error_of(AudioAccess().load, entry, start=2.0, end=2.005)
    for start, end in ((1.0, 1.0), (1.2, 1.1), (-0.1, 1.0), (float("nan"), 1.0), (0.5, float("inf"))):
        assert "expected 0 <= start < end" in error_of(AudioAccess().load, entry, start=start, end=end)
    assert "holds no sample" in error_of(AudioAccess().load, entry, start=1.0, end=1.00001)


def test_segments_are_cut_before_the_rate_changes(tmp_path):
    soundfile.write(tmp_path / "x.wav", noise(44100), 44100)
    found = AudioAccess(tmp_path).load("x.wav", start=0.25, end=0.75, sample_rate=RATE)
    assert (len(found.samples), found.sample_rate) == (8000, RATE)


def test_pipes_need_leave(tmp_path):
    entry = f"touch {tmp_path}/ran; cat x.wav |"
    for function in (AudioAccess().load, AudioAccess().info):
        assert "--allow-pipes" in error_of(function, entry)
        assert "--allow-pipes" in error_of(function, f"| touch {tmp_path}/ran")
    assert not (tmp_path / "ran").exists()


def test_pipes(tmp_path):
    access = AudioAccess(tmp_path, allow_pipes=True)
    soundfile.write(tmp_path / "x.wav", noise(), RATE)
    whole = read_audio(tmp_path / "x.wav").samples
    found = access.load("cat x.wav | cat |")
    np.testing.assert_array_equal(found.samples, whole)
    part = access.load(" cat x.wav |", start=0.1, end=0.2)
    np.testing.assert_array_equal(part.samples, whole[1600:3200])
    assert access.info("cat x.wav |").duration == 4001 / RATE
    (tmp_path / "x.sph").write_bytes(sphere(np.arange(50, dtype="<i2").tobytes()))
    assert access.load("cat x.sph |").samples.tolist() == list(range(50))


def test_pipes_that_fail(tmp_path):
    message = error_of(AudioAccess(allow_pipes=True).load, "echo one >&2; echo no such thing >&2; exit 3 |")
    assert message.endswith("the command failed with status 3 (no such thing)")
    assert "printed nothing" in error_of(AudioAccess(allow_pipes=True).load, "true |")
    assert "not audio" in error_of(AudioAccess(allow_pipes=True).load, "echo hello |")
    assert "output pipe" in error_of(AudioAccess(allow_pipes=True).load, "| cat")
    soundfile.write(tmp_path / "x.wav", noise(), RATE)
    assert "promises 4001 samples" in error_of(AudioAccess(allow_pipes=True).load, f"head -c 444 {tmp_path}/x.wav |")


def test_what_the_system_refuses_is_told_of_the_recording(tmp_path, monkeypatch):
    class Broken:
        name = "the stream"

        def read(self, size):
            raise OSError(5, "Input/output error")

    def broken_off(*args, **kwargs):
        raise OSError(5, "Input/output error")

    def open_broken():
        with open_audio(Broken()):
            pass

    assert error_of(open_broken) == "the stream: cannot be read (Input/output error)"
    monkeypatch.setattr("asrkit.audio.access.subprocess.Popen.__init__", broken_off)
    assert error_of(AudioAccess(allow_pipes=True).load, "true |") == "true |: cannot be run (Input/output error)"
    soundfile.write(tmp_path / "x.ogg", noise(), RATE)
    monkeypatch.setattr("asrkit.audio.ogg.mmap.mmap", broken_off)
    assert error_of(read_audio, tmp_path / "x.ogg") == f"{tmp_path}/x.ogg: cannot be read (Input/output error)"
    monkeypatch.setattr("tempfile.TemporaryFile", broken_off)
    for function in (AudioAccess(allow_pipes=True).load, open_broken):
        message = error_of(function, *(["true |"] if function != open_broken else []))
        assert "no temporary file can be written for it in" in message


def test_flac_without_a_length(tmp_path):
    """An encoder that writes into a pipe leaves the count of samples at 0, which means unknown."""
    soundfile.write(tmp_path / "x.flac", noise(5000), RATE)
    whole = read_audio(tmp_path / "x.flac").samples
    content = bytearray((tmp_path / "x.flac").read_bytes())
    count = content.index(b"fLaC") + 4 + 4 + 13  # the last 36 bits of bytes 13 to 18 of STREAMINFO
    content[count] &= 0xF0
    content[count + 1 : count + 5] = bytes(4)
    (tmp_path / "x.flac").write_bytes(content)
    np.testing.assert_array_equal(read_audio(tmp_path / "x.flac").samples, whole)
    assert audio_duration(tmp_path / "x.flac") == 5000 / RATE
    part = AudioAccess(tmp_path).load("x.flac", start=0.1, end=0.2).samples
    np.testing.assert_array_equal(part, whole[1600:3200])


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("FLAC", "PCM_16")])
def test_long_files_are_decoded_as_in_one_go(tmp_path, container, subtype):
    """Decoding in blocks must not disturb a decoder that carries state from frame to frame."""
    samples = noise(1_200_000)
    with soundfile.SoundFile(tmp_path / "x", "w", RATE, 1, format=container, subtype=subtype) as file:
        for start in range(0, len(samples), 50_000):
            file.write(samples[start : start + 50_000])
    expected, _ = soundfile.read(tmp_path / "x", dtype="float32")
    # soundfile.read seeks first, after which mpg123 rounds differently in the last bits.
    np.testing.assert_allclose(read_audio(tmp_path / "x").samples, expected * 32768, rtol=0, atol=0.02)


# Real Opus files


def test_opus_of_a_corpus():
    """Opus is coded at 48 kHz; the files' last granule gives their length independently of libsndfile."""
    files = sorted(shared_or_skip("data/speechocean762/WAVE").glob("SPEAKER00*/*.opus"))[:40]
    assert files
    for path in files:
        content = path.read_bytes()
        granule = struct.unpack_from("<q", content, content.rindex(b"OggS") + 6)[0]
        pre_skip = struct.unpack_from("<H", content, content.index(b"OpusHead") + 10)[0]
        seconds = (granule - pre_skip) / 48000
        assert audio_duration(path) == pytest.approx(seconds, abs=1 / RATE)
        found = read_audio(path, sample_rate=RATE)
        assert abs(len(found.samples) - seconds * RATE) <= 1
        assert 100 < np.abs(found.samples).max() <= 40000


# In blocks: bit for bit what read_audio gives, from files and from streams that cannot be sought.


def in_blocks(source, sample_rate=None, **options):
    with open_audio(source, **options) as stream:
        blocks = list(stream.blocks(sample_rate))
        assert stream.duration == stream.num_samples / stream.sample_rate
        return np.concatenate(blocks), stream.duration, len(blocks)


CODINGS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "ULAW", "IMA_ADPCM")),
    *(("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("NIST", "PCM_16"), ("NIST", "ALAW"), ("AIFF", "PCM_16")),
    *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("container", "subtype"), CODINGS, ids="-".join)
@pytest.mark.parametrize(("channels", "channel"), [(1, "error"), (2, 1), (2, "mix")])
def test_blocks_are_those_of_the_whole(tmp_path, monkeypatch, container, subtype, channels, channel):
    for module in (sndfile, source):
        monkeypatch.setattr(module, "BLOCK_FRAMES", 1000)
    path, rate = tmp_path / "x", 24000
    soundfile.write(path, noise(7001, channels), rate, format=container, subtype=subtype)
    for sample_rate in (None, rate, 16000, 44100):
        expected = read_audio(path, sample_rate=sample_rate, channel=channel).samples
        found, duration, num_blocks = in_blocks(path, sample_rate, channel=channel)
        assert num_blocks >= 7
        assert duration == audio_duration(path)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    with open(path, "rb") as file, os.fdopen(os.dup(file.fileno()), "rb", buffering=0) as stream:
        np.testing.assert_array_equal(in_blocks(stream, channel=channel)[0], read_audio(path, channel=channel).samples)


def test_audio_from_a_pipe(tmp_path):
    """A WAV header whose sizes the program that streamed could not fill in, too."""
    soundfile.write(tmp_path / "x.wav", noise(3000), RATE)
    content = (tmp_path / "x.wav").read_bytes()
    endless = content[:40] + b"\xff\xff\xff\xff" + content[44:]
    for sent in (content, endless):
        reader, writer = os.pipe()
        with open(reader, "rb") as stream, open(writer, "wb") as sink:
            sink.write(sent)
            sink.close()
            found, duration, _ = in_blocks(stream)
        np.testing.assert_array_equal(found, read_audio(tmp_path / "x.wav").samples)
        assert duration == 3000 / RATE
    message = error_of(in_blocks, io.BytesIO(b""))
    assert message == "stream: empty (0 bytes); expected audio"
    assert "not audio that can be read" in error_of(in_blocks, io.BytesIO(b"no audio " * 50))


def test_a_long_flac_stream_without_a_length_is_not_held_in_memory(tmp_path, monkeypatch):
    for module in (sndfile, source):
        monkeypatch.setattr(module, "BLOCK_FRAMES", 1000)
    soundfile.write(tmp_path / "x.flac", noise(7001), RATE)
    content = bytearray((tmp_path / "x.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples, 36 bits
    content[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(content)
    with open_audio(tmp_path / "x.flac") as stream:
        blocks = stream.blocks()
        assert len(next(blocks)) == 1000
        assert stream.num_samples < 2001
        assert 1000 + sum(map(len, blocks)) == stream.num_samples == 7001


def test_faults_in_the_middle_are_found_when_they_are_reached(tmp_path, monkeypatch):
    for module in (sndfile, source):
        monkeypatch.setattr(module, "BLOCK_FRAMES", 1000)
    samples = noise(5000)
    samples[4200] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    message = error_of(in_blocks, tmp_path / "nan.wav")
    assert "1 of 1000 samples are NaN or infinite, the first at 0.263 s" in message  # 4200 / 16000 s
    soundfile.write(tmp_path / "x.flac", noise(90000), RATE)
    (tmp_path / "x.flac").write_bytes((tmp_path / "x.flac").read_bytes()[:60000])
    assert error_of(in_blocks, tmp_path / "x.flac") == error_of(read_audio, tmp_path / "x.flac")
    soundfile.write(tmp_path / "stereo.wav", noise(10, 2), RATE)
    assert "2 channels; expected 1" in error_of(in_blocks, tmp_path / "stereo.wav")
    soundfile.write(tmp_path / "none.wav", noise(0), RATE)
    assert "no samples in it" in error_of(in_blocks, tmp_path / "none.wav")
