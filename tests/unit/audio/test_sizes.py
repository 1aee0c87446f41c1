"""Sizes in headers are compared with files, whatever the container: nothing is left out without a word."""

import io
import struct

import numpy as np
import pytest
import soundfile

from asrkit.audio import chunks, open_audio, read_audio
from asrkit.audio.source import is_open_size
from asrkit.errors import AudioError
from tests.audio_bytes import RATE, encode, patched, speechlike, wav, without_size

CONTAINERS = [
    *(("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAVEX", "PCM_32"), ("RF64", "PCM_16"), ("WAV", "ULAW"), ("WAV", "FLOAT")),
    *(("WAV", "MS_ADPCM"), ("WAV", "IMA_ADPCM"), ("WAV", "GSM610"), ("W64", "PCM_16"), ("W64", "PCM_24")),
    *(("AIFF", "PCM_16"), ("AIFF", "PCM_S8"), ("AIFF", "FLOAT"), ("AIFF", "ULAW"), ("AIFF", "IMA_ADPCM")),
    *(("AU", "PCM_16"), ("AU", "ULAW"), ("AU", "FLOAT"), ("CAF", "PCM_16"), ("CAF", "ALAW"), ("SVX", "PCM_16")),
    *(("VOC", "PCM_16"), ("VOC", "ULAW"), ("NIST", "PCM_16"), ("NIST", "ALAW"), ("FLAC", "PCM_16")),
]
by_container = pytest.mark.parametrize(("container", "subtype"), CONTAINERS, ids=lambda value: value)


@pytest.fixture
def error_of(tmp_path):
    """The message of every way to open such a file."""

    def error_of(content):
        path = tmp_path / "x"
        path.write_bytes(content)
        messages = set()
        for is_stream in (False, True):
            with open(path, "rb") as file, pytest.raises(AudioError) as caught:
                decode_all(file if is_stream else path)
            messages.add(str(caught.value).removeprefix(f"{path}: "))
        with pytest.raises(AudioError) as caught:
            read_audio(path, channel=0)
        messages.add(str(caught.value).removeprefix(f"{path}: "))
        assert len(messages) == 1
        (message,) = messages
        assert "\n" not in message
        return message

    return error_of


def decode_all(source):
    with open_audio(source, channel=0) as audio:
        return list(audio.blocks())


@by_container
def test_half_a_file_is_refused(error_of, container, subtype):
    for channels in (1, 2):
        if channels == 2 and (subtype == "GSM610" or container == "SVX"):
            continue  # of one channel only
        samples = np.stack([speechlike(5000)] * channels, axis=1)
        content = encode(samples, container, subtype)
        for length in (len(content) // 2, len(content) - 700):
            message = error_of(content[:length])
            assert "get the whole file" in message
            assert "promises" in message or "cut off" in message


@by_container
def test_a_second_file_is_told(error_of, container, subtype):
    content = encode(speechlike(5001), container, subtype)
    name = {"WAVEX": "WAV", "RF64": "WAV", "SVX": "8SVX", "NIST": "SPHERE"}.get(container, container)
    expected = f"a second file ({name}) begins at byte {len(content)}; make a file of each, or join their samples"
    assert error_of(content + content) == expected
    other = encode(speechlike(5001), "CAF" if container == "WAV" else "WAV")
    if container != "FLAC":  # whose end is known to the decoder alone
        assert "a second file (" in error_of(content + other)


@by_container
def test_tags_and_padding_behind_the_samples(read, container, subtype):
    content = encode(speechlike(5000), container, subtype)
    expected = read(content)
    for behind in (b"TAG" + bytes(range(125)), bytes(5000), b"\0", b"ID3\4\0\0\0\0\0\5hello"):
        np.testing.assert_array_equal(read(content + behind), expected)


def test_samples_behind_those_that_the_header_accounts_for(read, error_of):
    """As a recorder leaves them that was cut off from power after it last wrote its header."""
    samples = np.arange(1, 20001, dtype=np.int16)
    content = wav(samples, 36 + 20000, 20000)
    assert error_of(content) == (
        "the header accounts for 20044 of the file's 40044 bytes; repair the header, or remove what is not audio"
    )
    assert len(read(wav(samples[:10010], 36 + 20000, 20000))) == 10000  # what may be junk
    order = struct.pack(">5I", 24, 20000, 3, RATE, 1)
    assert "accounts for 20024 of" in error_of(b".snd" + order + samples.astype(">i2").tobytes())


# Sizes that were not known when the header was written


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("limit", [0x7FFFF000, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 37])
def test_placeholders_of_whole_blocks(read, bits, channels, limit):
    """sox rounds its place-holder down to whole blocks; others write what is left for the samples."""
    block = bits // 8 * channels
    steps = np.arange(-50, 50) + (128 if bits == 8 else 0)
    size = limit // block * block
    content = wav(np.repeat(steps, channels), min(size + 36, 2**32 - 1), size, channels, bits)
    found = read(content, channel=channels - 1)
    np.testing.assert_array_equal(found * 2.0 ** (bits - 16), np.arange(-50, 50))


def test_which_sizes_are_placeholders():
    for size in (0x7FFFF000, 0x7FFFEFFF, 0x7FFFEFFC, 0x7FFFEFC2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFDB):
        assert is_open_size(size)
    for size in (0x7F000000, 0x7EFFFFFC, 2**63 - 1, 2**63 - 105):
        assert is_open_size(size)
    for size in (0, 1, 44, 10**9, 0x7FF00000, 0x80000001, 0xF0000000, 2**33, 2**40):
        assert not is_open_size(size)


def test_a_great_size_that_is_none_of_them(error_of):
    assert "promises 536870912 samples, the file holds 100" in error_of(wav(np.arange(100), 2**30, 2**30))


def test_samples_are_compared_rather_than_bytes(read, error_of):
    """A size that counts the byte of padding, and a last sample that is not whole."""
    samples = np.arange(101)
    np.testing.assert_array_equal(read(wav(samples, 36 + 203, 203)), samples)
    assert "promises 102 samples, the file holds 101" in error_of(wav(samples, 36 + 204, 204) + b"\0")
    odd = wav(samples + 100, 36 + 102, 102, bits=8)  # the padding is missing
    assert len(read(odd[:40] + struct.pack("<I", 101) + odd[44:])) == 101


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "ULAW", "FLOAT"])
def test_placeholders_of_other_codings(read, subtype):
    content = encode(speechlike(5000), "WAV", subtype)
    begin = content.index(b"data") + 8
    expected = read(content)
    for size in (0x7FFFF000 // 65 * 65, 0xFFFFFFFF):
        open_content = content[:4] + b"\xff\xff\xff\xff" + content[8 : begin - 4] + struct.pack("<I", size)
        found = read(open_content + content[begin:])
        np.testing.assert_array_equal(found[: len(expected)], expected)
        assert len(found) - len(expected) < 1100  # a whole last block


def big(value):
    return struct.pack(">I", value)


@pytest.mark.parametrize(
    ("form", "frames", "size"),
    [
        (0, 0, 0),
        (0x7F000050, 0x1FC00000, 0x7F000008),
        (0xFFFFFFFF, 0, 0xFFFFFFFF),
        (0x7F000048, 0x2A555555, 0x7F000007),
    ],
    ids=["ffmpeg", "sox", "all ones", "sox, 24 bits"],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_aiff_from_a_pipe(read, form, frames, size, subtype):
    content = encode(speechlike(3001), "AIFF", subtype)
    comm, ssnd = content.index(b"COMM"), content.index(b"SSND")
    content = content[: ssnd + 16 + 3001 * (2 if subtype == "PCM_16" else 3)]
    expected = read(encode(speechlike(3001), "AIFF", subtype))
    changes = [(4, big(form)), (comm + 10, big(frames)), (ssnd + 4, big(size))]
    np.testing.assert_array_equal(read(patched(content, changes)), expected)


def test_aiff_with_its_description_behind_the_samples(read, error_of):
    content = encode(speechlike(3000), "AIFF", "PCM_16")
    comm, ssnd = content.index(b"COMM"), content.index(b"SSND")
    end = ssnd + 16 + 6000
    turned = content[:12] + content[ssnd:end] + content[comm : comm + 26]
    assert "promises 3000 samples, the file holds" in error_of(content[: end - 600])
    np.testing.assert_array_equal(read(turned), read(content))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_au_from_a_pipe(read, size):
    content = encode(speechlike(3000), "AU", "PCM_16")
    np.testing.assert_array_equal(read(patched(content, [(8, big(size))])), read(content))


@pytest.mark.parametrize(("riff", "size"), [(-1, 2**63 - 1), (0, 24), (-1, -1 & 2**63 - 1)])
def test_w64_from_a_pipe(read, riff, size):
    content = encode(speechlike(3000), "W64", "PCM_16")
    place = content.index(b"data\xf3") + 16
    changed = patched(content, [(16, struct.pack("<q", riff)), (place, struct.pack("<q", size))])
    np.testing.assert_array_equal(read(changed), read(content))


def test_caf_from_a_pipe(read):
    content = encode(speechlike(3000), "CAF", "PCM_16")
    place = content.index(b"data") + 4
    np.testing.assert_array_equal(read(patched(content, [(place, b"\xff" * 8)])), read(content))


def test_rf64_from_a_pipe(read):
    content = encode(speechlike(3000), "RF64", "PCM_16")
    place = content.index(b"ds64") + 8
    np.testing.assert_array_equal(read(patched(content, [(place, bytes(24))])), read(content))
    np.testing.assert_array_equal(read(b"BW64" + content[4:]), read(content))


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "W64", "CAF"])
def test_two_files_from_pipes(error_of, container):
    """Neither has a size: the second one's header would be heard as noise."""
    content = without_size(encode(speechlike(3000), container, "PCM_16"), container)
    assert error_of(content * 2).startswith(f"a second file ({container}) begins at byte {len(content)}")


@pytest.mark.parametrize(
    ("container", "place", "value", "told"),
    [
        ("CAF", b"data", struct.pack(">q", -7), "-7 bytes"),
        ("W64", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", struct.pack("<q", 3), "-21 bytes"),
        ("W64", b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", struct.pack("<q", -100), "-124 bytes"),
    ],
)
def test_negative_sizes_are_named(error_of, container, place, value, told):
    content = encode(speechlike(3000), container, "PCM_16")
    changed = patched(content, [(content.index(place) + len(place), value)])
    assert f"the header gives the samples a size of {told}; repair it" in error_of(changed)


def test_more_than_4_gib_from_a_pipe(read, error_of, monkeypatch):
    """WAV's header becomes RF64's; tried with a lower limit."""
    monkeypatch.setattr(chunks, "_MAX_SIZE", 1000)
    samples = np.arange(1000)
    np.testing.assert_array_equal(read(wav(samples, 0xFFFFFFFF, 0xFFFFFFFF)), samples)
    content = encode(speechlike(1000), "AIFF", "PCM_16")
    message = error_of(patched(content, [(content.index(b"SSND") + 4, b"\xff" * 4)]))
    assert message == f"{len(content)} bytes after a header without sizes; expected less than 4 GiB"


# VOC, which is made of blocks


def voc(*blocks):
    content = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x010A, 0x1129)
    return content + b"".join(bytes([kind]) + len(body).to_bytes(3, "little") + body for kind, body in blocks) + b"\0"


def test_voc_blocks(read, error_of):
    samples = np.arange(-500, 500, dtype="<i2")
    new = struct.pack("<IBBHI", RATE, 16, 1, 4, 0)
    for blocks in (
        [(9, new + samples.tobytes())],
        [(9, new + samples[:600].tobytes()), (2, samples[600:].tobytes())],
        [(5, b"a text\0"), (9, new + samples[:7].tobytes()), (4, b"\1\0"), (9, new + samples[7:].tobytes())],
    ):
        np.testing.assert_array_equal(read(voc(*blocks)), samples)
    eight_bits = (np.arange(256, dtype=np.uint8) - 128).tobytes()
    old = voc((1, bytes([256 - 100, 0]) + np.arange(256, dtype=np.uint8).tobytes()))
    np.testing.assert_array_equal(read(old), (np.arange(256) - 128) * 256)
    extended = voc((8, struct.pack("<HBB", 65536 - 256000000 // 16000, 0, 0)), (1, bytes([1, 0]) + eight_bits))
    assert len(read(extended)) == 256
    assert audio_info_rate(read, extended) == RATE
    assert "cut off in the middle of the block at byte 26" in error_of(voc((9, new + samples.tobytes()))[:-30])
    assert "different rates" in error_of(voc((9, new + bytes(8)), (9, struct.pack("<IBBHI", 8000, 16, 1, 4, 0))))
    assert "a block of kind 3, which is not read" in error_of(voc((9, new + bytes(8)), (3, b"\0\1\x9c")))
    assert "coding 512, which is not read" in error_of(voc((9, struct.pack("<IBBHI", RATE, 4, 1, 0x200, 0) + bytes(8))))
    assert "without samples" in error_of(voc((5, b"a text\0")))


def audio_info_rate(read, content):
    read(content)
    return round(len(read(content)) * RATE / len(read(content, sample_rate=RATE)))


def test_voc_as_sox_writes_it(read):
    """It counts 8 bytes of a block's own header too few."""
    samples = np.arange(-500, 500, dtype="<i2")
    content = bytearray(voc((9, struct.pack("<IBBHI", RATE, 16, 1, 4, 0) + samples.tobytes())))
    content[27:30] = (len(samples) * 2 + 4).to_bytes(3, "little")
    np.testing.assert_array_equal(read(bytes(content)), samples)


@pytest.mark.parametrize("container", ["AVR", "PAF", "MAT5", "XI", "MPC2K", "MAT4", "WVE", "SDS"])
def test_containers_that_are_not_read(error_of, container):
    """libsndfile does not compare their sizes with the file, and nobody keeps speech in them."""
    subtype = {"XI": "DPCM_16", "WVE": "ALAW"}.get(container, "PCM_16")
    content = encode(speechlike(3000), container, subtype, 8000 if container == "WVE" else RATE)
    assert "which is not read; convert it to WAV or FLAC" in error_of(content)


@pytest.mark.parametrize("container", ["IRCAM", "PVF", "HTK"])
def test_containers_without_a_size_are_read_to_the_end(read, container):
    samples = (speechlike(3000) * 32767).astype(np.int16)
    np.testing.assert_array_equal(read(encode(samples, container, "PCM_16")), samples)


def test_flac_behind_a_tag(read):
    content = encode(speechlike(3000), "FLAC")
    np.testing.assert_array_equal(read(b"ID3\4\0\0\0\0\0\5hello" + content), read(content))


def test_libsndfile_alone_would_say_nothing(tmp_path):
    """Why sizes are compared here; when this fails, some of the code for it may go."""
    for container in ("AIFF", "AU", "W64"):
        content = encode(speechlike(5000), container, "PCM_16")
        (tmp_path / "x").write_bytes(content[: len(content) // 2])
        assert 0 < soundfile.info(tmp_path / "x").frames < 3000


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    num_read = 0

    def read(self, size=-1):
        content = super().read(size)
        self.num_read += len(content)
        return content


@pytest.mark.parametrize("behind", [b"LIST\0\0\0\0", b"\0" * 8, b"LIST\0\0\0\0\0\0", b"TAG" + bytes(125)])
def test_what_is_behind_the_samples_is_read_a_few_times_at_most(behind):
    counts = []
    for number in (1000, 10_000):
        stream = Counted(behind * number)
        chunks.check_rest(stream, "x", (0, len(behind) * number), 32000)
        counts.append(stream.num_read)
    assert counts[1] <= 30 * len(behind) * 10_000
    assert counts[1] < 11 * counts[0] + 2**18
