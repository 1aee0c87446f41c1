"""MPEG audio: the frames are counted, whatever a header says; every one is decoded, or it is an error."""

import mmap
import struct

import numpy as np
import pytest

from asrkit.audio import AudioAccess, audio_info, read_audio
from asrkit.audio.mp3 import _Walk
from asrkit.errors import AudioError
from tests.audio_bytes import (
    MPEG_RATES,
    RATE,
    ape,
    encode,
    id3v2,
    mp3,
    mpeg_frame,
    mpeg_frame_samples,
    speechlike,
)

DELAY = 1105  # samples by which LAME and the decoder shift, when nothing tells them to leave them out


@pytest.fixture
def error_of(tmp_path):
    def error_of(content):
        path = tmp_path / "x.mp3"
        path.write_bytes(content)
        messages = []
        for function in (read_audio, audio_info):
            with pytest.raises(AudioError) as caught:
                function(path)
            messages.append(str(caught.value).removeprefix(f"{path}: "))
        assert messages[0] == messages[1]
        assert "\n" not in messages[0]
        return messages[0]

    return error_of


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE", "AVERAGE"])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_without_a_length_all_frames_are_decoded(read, mode, is_reversed):
    """libsndfile's estimate from the first frames is 3.6 times too short, or 2.2 times too long."""
    samples = speechlike(4 * RATE)
    info, frames = mp3(samples[::-1] if is_reversed else samples, mode)
    expected = read(info + frames)
    assert len(expected) == 4 * RATE
    found = read(frames)
    assert len(found) % 576 == 0
    assert 0 <= len(found) - 4 * RATE - DELAY < 2 * 1152
    np.testing.assert_allclose(found[DELAY : DELAY + 4 * RATE], expected, atol=0.02)


def tags():
    return {
        "ID3v2": (id3v2(400), b""),
        "a picture": (id3v2(60001), b""),
        "two, one with a footer": (id3v2(33, footer=True) + id3v2(10), b""),
        "ID3v1": (b"", b"TAG" + bytes(range(125))),
        "ID3v1 with more": (b"", b"TAG+" + b"t" * 223 + b"TAG" + b"\xff" * 125),
        "APE": (ape(b"\xff\xfb\x50\xc0" * 9), ape(b"\xff\xfb\x50\xc0" * 9) + b"TAG" + bytes(125)),
        "Lyrics3": (b"", b"LYRICSBEGIN" + b"\xff\xfb la la \xff\xfb" * 9 + b"000123LYRICS200TAG" + bytes(125)),
        "zeros": (id3v2(5) + bytes(3000), bytes(5000)),
        "unknown": (b"", b"something else, without frames\xff" * 40),
    }


@pytest.mark.parametrize("kind", tags())
@pytest.mark.parametrize("with_length", [False, True])
def test_tags_are_no_audio(read, kind, with_length):
    info, frames = mp3(speechlike(RATE), "VARIABLE")
    plain = info + frames if with_length else frames
    before, after = tags()[kind]
    np.testing.assert_array_equal(read(before + plain + after), read(plain))


def test_streams_that_were_joined(read):
    first, second = (mp3(speechlike(length, seed=length)) for length in (RATE, 3 * RATE // 2))
    one, two = read(b"".join(first)), read(b"".join(second))
    np.testing.assert_array_equal(read(b"".join((*first, *second))), np.concatenate([one, two]))
    np.testing.assert_array_equal(
        read(b"".join((*first, b"TAG" + bytes(125), id3v2(99), *second))), np.concatenate([one, two])
    )
    three = read(second[1])
    assert len(read(first[1] + second[1])) == len(read(first[1])) + len(three)
    np.testing.assert_allclose(read(first[1] + second[1])[-len(three) + 1152 :], three[1152:], atol=0.02)
    # What the first one's length does not cover is decoded, too.
    assert len(read(b"".join((*first, second[1])))) == len(read(first[1])) + len(three)
    np.testing.assert_array_equal(read(b"".join((second[1], *first)))[-RATE:], one)


def test_joined_streams_that_differ(error_of):
    one = mp3(speechlike(RATE))[1]
    other_rate = mp3(speechlike(RATE), rate=24000)[1]
    stereo = mp3(np.stack([speechlike(RATE)] * 2, axis=1))[1]
    expected = "2 streams, one after the other: number 1 has 16000 Hz and 1 channels, number 2 "
    assert expected + "24000 Hz and 1; make a file of each" in error_of(one + other_rate)
    assert expected + "16000 Hz and 2; make a file of each" in error_of(one + stereo)


def test_a_file_of_another_format_behind_it(error_of):
    one = mp3(speechlike(RATE))[1]
    message = error_of(one + encode(speechlike(RATE), "WAV"))
    assert message == f"a second file (WAV) begins at byte {len(one)}; make a file of each, or join their samples"


@pytest.mark.parametrize("with_length", [False, True])
def test_something_between_the_frames(error_of, with_length):
    info, frames = mp3(speechlike(RATE))
    size = len(mpeg_frame("2", 3, frames[2] >> 4, 2))
    junk = np.random.default_rng(0).bytes(300).replace(b"\xff", b"x")
    begin = len(info) * with_length + 5 * size
    content = info * with_length + frames[: 5 * size] + junk + frames[5 * size :]
    expected = f"damaged: bytes {begin} to {begin + 300} are not MPEG audio, but more of it follows"
    assert expected in error_of(content)


def test_cut_off(read, error_of):
    """In the middle of a frame it is an error, as the first half of any file; without a length no more can be known."""
    info, frames = mp3(speechlike(RATE))
    size = len(mpeg_frame("2", 3, frames[2] >> 4, 2))
    assert len(read(frames[: 7 * size])) == 7 * 576
    message = error_of(frames[: 7 * size + size // 3])
    assert message == (
        f"cut off in the middle of an MPEG frame ({size // 3} of its {size} bytes are there); get the whole file"
    )
    for rest in (1, 3):
        assert f"({rest} bytes of it are there)" in error_of(frames[: 7 * size + rest])
    for length in (7 * size, 7 * size + 9):
        expected = f"the header promises {RATE} samples, the file holds {7 * 576}; get the whole file"
        assert error_of(info + frames[:length]) == expected


def with_promise(info, num_frames, num_bytes=None):
    """The describing frame with other numbers; without that of bytes if None."""
    mark = max(info.find(b"Xing"), info.find(b"Info"))
    flags = struct.unpack_from(">I", info, mark + 4)[0]
    assert flags & 3 == 3
    flags = flags if num_bytes is not None else flags & ~2
    numbers = struct.pack(">II", num_frames, num_bytes) if num_bytes is not None else struct.pack(">I", num_frames)
    return info[: mark + 4] + struct.pack(">I", flags) + numbers + info[mark + 8 + len(numbers) :]


def test_a_length_that_is_not_so(read, error_of):
    """Too many by one, as some encoders count, with the right bytes; too few; none."""
    info, frames = mp3(speechlike(RATE))
    everything = read(frames)
    num_frames, size = len(everything) // 576, len(info + frames)
    assert len(read(with_promise(info, num_frames, size) + frames)) == RATE
    for promised in (num_frames + 1, num_frames - 9):
        np.testing.assert_array_equal(read(with_promise(info, promised, size) + frames), everything)
    assert "the header promises" in error_of(with_promise(info, num_frames + 1, size + 1) + frames)
    assert "the header promises" in error_of(with_promise(info, num_frames + 1) + frames)


def test_fraunhofers_length(read):
    """VBRI, 32 bytes behind the header: that frame is no audio, and what it says is not needed."""
    frames = mp3(speechlike(RATE))[1]
    described = bytearray(mpeg_frame("2", 3, 8, 2))
    described[36:54] = b"VBRI" + struct.pack(">HHHII", 1, 1105, 75, 12345, 999)
    np.testing.assert_array_equal(read(bytes(described) + frames), read(frames))


@pytest.mark.parametrize("version", ["1", "2", "2.5"])
@pytest.mark.parametrize("layer", [1, 2, 3])
@pytest.mark.parametrize("mono", [True, False])
def test_frames_of_every_kind(tmp_path, read, version, layer, mono):
    """Of all sampling rates, with bit rates that change from frame to frame, and padding."""
    for rate, hertz in enumerate(MPEG_RATES[version]):
        # Layer II of MPEG-1 admits low rates for one channel only, and high ones for two.
        bit_rates = range(6, 11) if (version, layer) == ("1", 2) else range(1, 15)
        frames = [mpeg_frame(version, layer, bit_rate, rate, mono, bit_rate % 2) for bit_rate in bit_rates]
        content = b"".join(frames * 3)
        found = read(content, channel=0)
        assert len(found) == 3 * len(frames) * mpeg_frame_samples(version, layer)
        assert np.abs(found).max() < 1
        assert audio_info(tmp_path / "x")[1:] == (hertz, 1 if mono else 2)


def test_free_format(read):
    """The bit rate's number 0: the distance of two headers tells the length of all frames."""
    frames = []
    for number in range(20):
        padding = number % 3 == 0
        frame = mpeg_frame("1", 3, 9, 0, padding=padding)
        frame = frame[:2] + bytes([frame[2] & 0x0F]) + frame[3:]
        frames.append(frame[: 300 + padding])
    assert len(read(b"".join(frames))) == 20 * 1152
    assert len(read(id3v2(50) + b"".join(frames) + b"TAG" + bytes(125))) == 20 * 1152


def test_parts_are_slices_of_the_whole(tmp_path):
    (tmp_path / "x.mp3").write_bytes(b"".join(mp3(speechlike(2 * RATE), "VARIABLE")[1:] * 2))
    whole = read_audio(tmp_path / "x.mp3").samples
    for start, end in ((0.0, 0.5), (0.7, 2.6), (2.5, 3.0)):
        found = AudioAccess(tmp_path).load("x.mp3", start=start, end=end).samples
        np.testing.assert_array_equal(found, whole[round(start * RATE) : round(end * RATE)])


def test_inside_wav(read, error_of):
    frames = mp3(speechlike(RATE), "VARIABLE")[1]
    fmt = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 4000, 1, 0, 12, 1, 2, 144, 1, 1393)

    def wav(data_size):
        riff = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", data_size) + frames
        return b"RIFF" + struct.pack("<I", len(riff)) + riff

    np.testing.assert_array_equal(read(wav(len(frames))), read(frames))
    np.testing.assert_array_equal(read(wav(0xFFFFFFFF)), read(frames))
    assert f"promises {len(frames) + 9} bytes of samples, the file holds {len(frames)}" in error_of(
        wav(len(frames) + 9)
    )


def test_the_decoders_remarks_are_not_printed(read, capfd):
    """Damage inside of frames, which nothing tells but libmpg123 on the file descriptor 2."""
    frames = bytearray(mp3(speechlike(4 * RATE))[1])
    size = len(mpeg_frame("2", 3, frames[2] >> 4, 2))
    random = np.random.default_rng(3)
    for begin in range(0, len(frames), size):
        frames[begin + 20 : begin + 120] = random.bytes(100)
    read(bytes(frames))
    assert capfd.readouterr() == ("", "")


def test_ends_of_lyrics_are_found_wherever_one_looks_first(tmp_path):
    rng = np.random.default_rng(1)
    content = b"".join(rng.choice([b"LYRICSEND", b"x" * 40, b"\xff", b"LYRICSEN"], 60))
    path = tmp_path / "x"
    path.write_bytes(content)
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for _ in range(50):
            walk = _Walk(data, "x", range(len(data)))
            for position in rng.integers(0, len(data), 8).tolist():
                assert walk._find(b"LYRICSEND", position) == data.find(b"LYRICSEND", position)
