"""Ogg: all streams of a file are decoded, and pages that are damaged, missing or cut off are an error."""

import struct

import numpy as np
import pytest

from asrkit.audio import AudioAccess, audio_info, read_audio
from asrkit.errors import AudioError
from tests.audio_bytes import RATE, encode, ogg_pages, speechlike, with_ogg_checksum

CODINGS = ("VORBIS", "OPUS")


@pytest.fixture
def error_of(tmp_path):
    def error_of(content):
        path = tmp_path / "x.ogg"
        path.write_bytes(content)
        for function in (read_audio, audio_info):
            with pytest.raises(AudioError) as caught:
                function(path)
            assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{path}: ")

    return error_of


@pytest.mark.parametrize("coding", CODINGS)
def test_streams_one_after_the_other(tmp_path, read, coding):
    first, second = (encode(speechlike(length, seed=length), "OGG", coding) for length in (RATE, 3 * RATE // 2))
    both = np.concatenate([read(first), read(second)])
    assert len(both) == 5 * RATE // 2
    np.testing.assert_array_equal(read(first + second), both)
    np.testing.assert_array_equal(read(first + first)[RATE:], both[:RATE])  # also of one serial number
    (tmp_path / "x.ogg").write_bytes(first + second)
    part = AudioAccess(tmp_path).load("x.ogg", start=0.9, end=1.2).samples
    np.testing.assert_array_equal(part, both[round(0.9 * RATE) : round(1.2 * RATE)])


def test_streams_of_different_codings(read, error_of):
    vorbis, opus = (encode(speechlike(RATE), "OGG", coding) for coding in CODINGS)
    np.testing.assert_array_equal(read(vorbis + opus), np.concatenate([read(vorbis), read(opus)]))
    other = encode(speechlike(RATE), "OGG", "VORBIS", 24000)
    assert "2 streams, one after the other: number 1 has 16000 Hz and 1 channels, number 2 24000" in error_of(
        vorbis + other
    )
    message = error_of(vorbis + encode(speechlike(RATE), "FLAC"))
    assert message.startswith(f"a second file (FLAC) begins at byte {len(vorbis)}")


@pytest.mark.parametrize("coding", CODINGS)
def test_cut_off(error_of, coding):
    content = encode(speechlike(3 * RATE), "OGG", coding)
    starts = np.cumsum([0, *map(len, ogg_pages(content))])
    for length in (len(content) // 2, len(content) - 1, int(starts[-2]) + 5):
        page = starts[np.searchsorted(starts, length, "right") - 1]
        expected = f"cut off in the middle of the Ogg page at byte {page}; get the whole file"
        assert error_of(content[:length]) == expected


@pytest.mark.parametrize("coding", CODINGS)
def test_without_a_mark_of_the_end(read, coding):
    """Telephones leave it out: what is there is read, whole page by whole page."""
    content = encode(speechlike(3 * RATE), "OGG", coding)
    pages = ogg_pages(content)
    last = pages[-1]
    assert last[5] & 4
    last = with_ogg_checksum(last[:5] + bytes([last[5] & ~4]) + last[6:])
    without = b"".join([*pages[:-1], last])
    np.testing.assert_array_equal(read(without), read(content))
    np.testing.assert_array_equal(read(without + content), np.concatenate([read(content), read(content)]))
    assert RATE < len(read(b"".join(pages[:-1]))) < 3 * RATE


@pytest.mark.parametrize("coding", CODINGS)
def test_damage(read, error_of, coding):
    content = encode(speechlike(3 * RATE), "OGG", coding)
    pages = ogg_pages(content)
    begin = len(content) - len(pages[-1])
    flipped = bytearray(content)
    flipped[begin + 200] ^= 1
    assert error_of(bytes(flipped)).startswith(f"damaged: the Ogg page at byte {begin} has a wrong checksum")
    missing = b"".join(pages[:2] + pages[3:])
    before = len(pages[0]) + len(pages[1])
    assert error_of(missing).startswith(f"damaged: pages are missing before byte {before}")
    assert error_of(content[:begin] + b"junk" + content[begin:]).startswith(f"damaged at byte {begin}: no Ogg page")
    np.testing.assert_array_equal(read(content + b"TAG" + bytes(125)), read(content))


def test_a_packet_that_goes_on(error_of):
    """A last page that is whole, and ends within a packet."""
    pages = ogg_pages(encode(speechlike(3 * RATE), "OGG", "VORBIS"))
    last = pages[-1]
    num_laces = last[26]
    packet = 255 * (last[27 + num_laces - 1] < 255)
    body = last[27 + num_laces :]
    page = last[:26] + bytes([num_laces]) + last[27 : 27 + num_laces - 1] + bytes([packet]) + body.ljust(9999, b"x")
    page = page[: 27 + num_laces + sum(page[27 : 27 + num_laces])]
    expected = "the last packet is not complete; get the whole file"
    assert error_of(b"".join([*pages[:-1], with_ogg_checksum(page)])).endswith(expected)


@pytest.mark.parametrize(
    ("packet", "name"), [(b"\x7fFLAC\x01\x00", "FLAC"), (b"Speex   1.2", "Speex"), (b"\x80theora", "video")]
)
def test_codings_that_are_not_read(error_of, packet, name):
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, 1, 0, 0, 1) + bytes([len(packet)]) + packet
    assert error_of(with_ogg_checksum(page)).startswith(f"{name}")
    assert "in Ogg, which is not read" in error_of(with_ogg_checksum(page))
