"""Which files are taken for audio: one table for directories, corpora and standard input."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from asrkit.audio import AUDIO_ENDINGS, UNREADABLE_AUDIO_ENDINGS, open_audio, read_audio
from asrkit.audio.file_formats import FORMATS, identify
from asrkit.audio.inputs import file_format, find_inputs, visible_files
from asrkit.cli.stream import raw_samples
from asrkit.corpora import farsdat, own
from asrkit.errors import AudioError, DataError
from asrkit.findings import Findings
from tests.audio_bytes import RATE, ape, encode, id3v2, mp3, mpeg_frame, speechlike

# How a file of each format of the table begins.
WRITTEN = {
    "WAV": ("WAV", "PCM_16"),
    "W64": ("W64", "PCM_16"),
    "AIFF": ("AIFF", "PCM_16"),
    "8SVX": ("SVX", "PCM_16"),
    "AU": ("AU", "PCM_16"),
    "CAF": ("CAF", "PCM_16"),
    "VOC": ("VOC", "PCM_16"),
    "FLAC": ("FLAC", "PCM_16"),
    "Ogg": ("OGG", "VORBIS"),
    "SPHERE": ("NIST", "PCM_16"),
    "IRCAM": ("IRCAM", "PCM_16"),
    "PVF": ("PVF", "PCM_16"),
    "AVR": ("AVR", "PCM_16"),
    "PARIS": ("PAF", "PCM_16"),
    "Psion": ("WVE", "ALAW"),
    "FastTracker instrument": ("XI", "DPCM_16"),
    "MATLAB": ("MAT5", "PCM_16"),
    "MIDI sample dump": ("SDS", "PCM_16"),
}
ADTS = bytes([0xFF, 0xF1, 0x60, 0x40, 0x04, 0x1F, 0xFC]) + bytes(25)  # 32 bytes of AAC
BEGINNINGS = {
    "MPEG-4 audio": b"\0\0\0\x1cftypM4A \0\0\2\0",
    "AAC": ADTS * 3,
    "Windows Media": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "AMR": b"#!AMR\n\x3c",
    "WebM or Matroska": bytes.fromhex("1a45dfa39f4286810142f7810142f281"),
    "WavPack": b"wvpk\x40\0\0\0\x10\4\0\0",
    "Monkey's Audio": b"MAC \x96\x0f\0\0",
    "True Audio": b"TTA1\1\0\1\0",
    "Musepack": b"MPCKSH",
    "AC-3": b"\x0b\x77\x12\x34\x50\x40",
    "DTS": b"\x7f\xfe\x80\x01\xfc\x3c",
    "RealAudio": b".ra\xfd\0\4\0\0",
    "Shorten": b"ajkg\2",
    "DSS dictation": b"\2dss\1\0\0\0",
    "DSD": b"DSD \x1c\0\0\0",
    "QOA": b"qoaf\0\0\x10\0",
    "AVI": b"RIFF\x10\0\0\0AVI LIST",
    "RIFF": b"RIFF\x10\0\0\0RMIDdata",
    "IFF": b"FORM\0\0\0\x10ILBMBMHD",
}


def beginning(name):
    if name == "MP3":
        return mp3(speechlike(RATE))[1]
    if name in WRITTEN:
        container, subtype = WRITTEN[name]
        return encode(speechlike(3000), container, subtype, 8000 if subtype == "ALAW" else RATE)
    return BEGINNINGS[name] + bytes(100)


WITH_MAGIC = [each for each in FORMATS if each.magic is not None]


@pytest.mark.parametrize("kind", WITH_MAGIC, ids=lambda kind: kind.name)
def test_every_format_is_told_by_its_content(tmp_path, kind):
    content = beginning(kind.name)
    assert identify(content[:64]) is kind
    assert file_format(content) is kind
    path = tmp_path / "x.wav"
    path.write_bytes(content)
    if kind.is_read:
        assert len(read_audio(path).samples) >= 3000
    else:
        for source in (path, io.BytesIO(content)):
            with pytest.raises(AudioError, match=rf": {kind.name}, which is not read"), open_audio(source):
                pass


@pytest.mark.parametrize("kind", WITH_MAGIC, ids=lambda kind: kind.name)
@pytest.mark.parametrize("at_a_time", [3, 480, 2**16])
def test_no_format_is_taken_for_raw_samples(kind, at_a_time):
    class Trickle(io.BytesIO):
        def read1(self, size=-1):
            return super().read1(min(at_a_time, size))

    with pytest.raises(AudioError, match=rf"a file with a header \({kind.name}\)"):
        list(raw_samples(Trickle(beginning(kind.name)), at_a_time))


@pytest.mark.parametrize("tag", [id3v2(50), ape(b"x" * 50)])
def test_tags_are_no_raw_samples(tag):
    with pytest.raises(AudioError, match="a file with a header"):
        list(raw_samples(io.BytesIO(tag + mp3(speechlike(RATE))[1]), 480))


def test_raw_samples_that_begin_as_a_frame_does():
    """-1 and then small numbers: the header of MPEG-1, layer I; and AAC's, -3585 at first."""
    for first in ([-1, 16, 0, 5], [-1025, 80, 3], [-3585, 100, 9], [-1, -1, -1]):
        samples = np.array([*first, *range(-4000, 4000)], "<i2")
        for size in (40, 10**5):
            np.testing.assert_array_equal(np.concatenate([*raw_samples(io.BytesIO(samples.tobytes()), size)]), samples)
    short = mpeg_frame("1", 3, 9, 0)[:40]  # not a whole frame
    assert len(np.concatenate([*raw_samples(io.BytesIO(short), 480)])) == 20


def test_every_ending_stands_once():
    endings = [ending for each in FORMATS for ending in each.endings]
    assert len(endings) == len(set(endings))
    assert all(ending == ending.lower() and ending.startswith(".") for ending in endings)
    assert {".aifc", ".snd", ".rf64", ".voc", ".mp2", ".wave", ".opus"} <= AUDIO_ENDINGS
    assert {".m4a", ".amr", ".webm", ".aac", ".wma"} <= UNREADABLE_AUDIO_ENDINGS


@pytest.fixture
def corpus(tmp_path):
    wav = encode(speechlike(3000), "WAV")
    for name, content in {
        "b.wav": wav,
        "a.AIFC": wav,
        "notes.txt": b"none",
        "._b.wav": b"\0\5\26\7" + bytes(60),
        ".hidden.wav": wav,
        ".trash/old.wav": wav,
        "deep/er/c.mp2": wav,
        "deep/d.m4a": BEGINNINGS["MPEG-4 audio"],
        "deep/e.webm": wav,  # the content tells
        "deep/f.gsm": bytes(99),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_files_of_a_directory(corpus, capsys):
    inputs = find_inputs([str(corpus)])
    assert [(Path(each.name).name, each.key) for each in inputs] == [
        *(("a.AIFC", "a"), ("b.wav", "b"), ("d.m4a", "deep/d"), ("e.webm", "deep/e"), ("f.gsm", "deep/f")),
        ("c.mp2", "deep/er/c"),
    ]
    faults = [each.fault for each in inputs if each.fault is not None]
    advice = "which is not read; convert it to WAV or FLAC, for example with ffmpeg"
    assert faults == [f"{corpus}/deep/d.m4a: MPEG-4 audio, {advice}", f"{corpus}/deep/f.gsm: GSM 06.10, {advice}"]
    assert capsys.readouterr().err == f"{corpus}: 6 audio files\n"


def test_what_is_named_is_read_though_hidden(corpus):
    assert [each.key for each in find_inputs([str(corpus / ".hidden.wav"), str(corpus / ".trash")])] == [
        ".hidden",
        "old",
    ]
    assert [each.key for each in find_inputs([f"{corpus}/**/*.wav"])] == ["b"]


def test_a_directory_that_cannot_be_read_is_named(corpus, monkeypatch):
    listed = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = find_inputs([str(corpus)])
    assert [(each.key, each.fault) for each in found] == [
        ("a", None),
        ("b", None),
        ("", f"{corpus}/deep: cannot be read (Permission denied)"),
    ]
    (corpus / "CD1" / "wave" / "deep").mkdir(parents=True)
    for read, directory in ((own.read_corpus, corpus / "deep"), (farsdat.read_corpus, corpus / "CD1/wave/deep")):
        with pytest.raises(DataError) as caught:
            read(corpus)
        assert f"{directory}: cannot be read (Permission denied)" in str(caught.value).split("\n")


def test_links_are_followed_once(corpus):
    os.symlink(corpus, corpus / "deep" / "round")
    os.symlink(corpus / "deep", corpus / "z")
    names = [str(path.relative_to(corpus)) for path in visible_files(corpus, Findings())]
    assert names == ["a.AIFC", "b.wav", "notes.txt", "deep/d.m4a", "deep/e.webm", "deep/f.gsm", "deep/er/c.mp2"]
    assert list(visible_files(corpus, Findings(), exclude=corpus / "deep")) == [corpus / name for name in names[:3]]
