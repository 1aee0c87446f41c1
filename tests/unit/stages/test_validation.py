"""`asrkit validate`: a good directory passes, and each kind of fault is found with its file and line, all at once."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from asrkit.audio import AudioAccess
from asrkit.cli.main import main
from asrkit.formats.data_dir import write_data_dir
from asrkit.io.ark import ArkWriter
from asrkit.lang.tokens import TokenTable
from asrkit.stages.validation import validate
from asrkit.types import PhoneTime, Utterance
from tests.shared import shared_or_skip

RATE = 8000


@pytest.fixture
def data(tmp_path):
    """DATA/train of four utterances of 1 s, two of them halves of one recording, with features and tokens."""
    for name, seconds in (("r1", 2), ("u3", 1), ("u4", 1)):
        samples = np.random.default_rng(0).uniform(-0.1, 0.1, seconds * RATE)
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    times = (PhoneTime("a", 0.0, 0.4), PhoneTime("b", 0.4, 1.0))
    utts = [
        Utterance("u1", "s1", f"{tmp_path}/r1.wav", ("a", "b"), "r1", 0.0, 1.0, "f", times),
        Utterance("u2", "s1", f"{tmp_path}/r1.wav", ("b",), "r1", 1.0, 2.0, "f"),
        Utterance("u3", "s2", f"{tmp_path}/u3.wav", ("a", "#"), sex="m"),
        Utterance("u4", "s2", f"{tmp_path}/u4.wav", ("b", "a"), sex="m"),
    ]
    folder = tmp_path / "DATA" / "train"
    write_data_dir(folder, utts, dict.fromkeys(["u1", "u2", "u3", "u4"], 1.0))
    for name, keys in (("feats", ["u1", "u2", "u3", "u4"]), ("cmvn", ["s1", "s2"])):
        with ArkWriter(folder / f"{name}.ark", folder / f"{name}.scp") as writer:
            for key in keys:
                writer.write(key, np.zeros((2, 3), np.float32))
    TokenTable(["#", "a", "b"]).write(tmp_path / "DATA" / "tokens.txt")
    return folder


def change(path, old, new):
    content = path.read_bytes()
    old, new = (text if isinstance(text, bytes) else text.encode() for text in (old, new))
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


def faults_of(folder, **kwargs):
    tokens = TokenTable.read(folder.parent / "tokens.txt")
    faults = validate(folder, tokens=tokens, audio=AudioAccess(**kwargs)).findings.errors
    return [fault.removeprefix(f"{folder}/") for fault in faults]


def test_good_directory(data, capsys):
    assert faults_of(data) == []
    assert main(["validate", str(data)]) == 0
    tokens = f"tokens from {data.parent}/tokens.txt"
    assert capsys.readouterr().out == f"{data}: 4 utterances, 2 speakers, 0.00 h, 7 phones, {tokens}; 0 faults\n"


# file, what is replaced by what, and the one fault that this must give
FAULTS = {
    "unsorted": (
        "text",
        "u3 a #\nu4 b a\n",
        "u4 b a\nu3 a #\n",
        "text:4: not sorted: u3 after u4; sort with LC_ALL=C sort",
    ),
    "unsorted scp": (
        "utt2dur",
        "u1 1.000\nu2 1.000",
        "u2 1.0\nu1 1.0",
        "utt2dur:2: not sorted: u1 after u2; sort with LC_ALL=C sort",
    ),
    "unsorted speakers": (
        "spk2gender",
        "s1 f\ns2 m",
        "s2 m\ns1 f",
        "spk2gender:2: not sorted: s1 after s2; sort with LC_ALL=C sort",
    ),
    "duplicate": ("text", "u2 b\n", "u2 b\nu2 b\n", "text:3: u2 a second time (first in line 2); remove one of them"),
    "only in text": ("text", "u4 b a\n", "u4 b a\nu5 a\n", "text:5: utterance u5 is not in utt2spk"),
    "not in text": ("text", "u2 b\n", "", "utt2spk:2: utterance u2 is not in text"),
    "not in utt2dur": ("utt2dur", "u2 1.000\n", "", "utt2spk:2: utterance u2 is not in utt2dur"),
    "spk2utt disagrees": (
        "spk2utt",
        "s2 u3 u4",
        "s2 u3",
        "spk2utt:2: speaker s2 disagrees with utt2spk about u4; make spk2utt again from utt2spk",
    ),
    "segment past the end": (
        "segments",
        "u2 r1 1.000 2.000",
        "u2 r1 1.000 2.011",
        "segments:2: u2 ends at 2.011 s, past the end of r1, which has 2.000 s",
    ),
    "segment after the end": (
        "segments",
        "u2 r1 1.000 2.000",
        "u2 r1 2.000 2.009",
        "segments:2: u2 ends at 2.009 s, past the end of r1, which has 2.000 s",
    ),
    "segment backwards": (
        "segments",
        "u2 r1 1.000 2.000",
        "u2 r1 1.000 1.000",
        "segments:2: u2: start 1.000 is not before end 1.000",
    ),
    "segment of nothing": ("segments", "u2 r1", "u2 r9", "segments:2: recording r9 is not in wav.scp"),
    "unknown phones": ("text", "u4 b a", "u4 y b <blk> x", "text:4: u4: not in the token list: <blk> x y"),
    "empty transcript": ("text", "u4 b a", "u4 ", "text:4: u4: empty transcript; give its phones or remove it"),
    "not UTF-8": ("text", "u4 b a", b"u4 b \xe4", "text:4: not UTF-8 (byte 0xe4 in column 6); re-encode it"),
    "empty line": ("utt2spk", "u2 s1\n", "u2 s1\n\n", "utt2spk:3: empty line; remove it"),
    "utt2dur": ("utt2dur", "u3 1.000", "u3 1.011", "utt2dur:3: u3: 1.011 s stated, the audio has 1.000 s"),
    "utt2dur of a segment": ("utt2dur", "u2 1.000", "u2 2.000", "utt2dur:2: u2: 2.000 s stated, the audio has 1.000 s"),
    "ctm past the end": (
        "phones.ctm",
        "0.600 b",
        "0.611 b",
        "phones.ctm:1: u1: phones end at 1.011 s, past its audio, which has 1.000 s",
    ),
    "ctm unsorted": (
        "phones.ctm",
        "1 0.000 0.400 a",
        "1 0.500 0.400 a",
        "phones.ctm:2: u1: start 0.400 is before the line above; sort by utterance and start",
    ),
    "ctm of others": ("phones.ctm", "u1 1 0.400", "u0 1 0.400", "phones.ctm:2: utterance u0 is not in utt2spk"),
    "ctm unlike text": (
        "phones.ctm",
        "0.600 b",
        "0.600 #",
        "phones.ctm:1: u1: 2 phones here, 2 in text: phone 2 is #, in text b",
    ),
    "ctm shorter than text": (
        "text",
        "u1 a b",
        "u1 a b a",
        "phones.ctm:1: u1: 2 phones here, 3 in text: lengths differ",
    ),
    "feats missing": (
        "feats.scp",
        "u2 ",
        "u1a ",
        "feats.scp: u2 of utt2spk is missing; made by stage 1 (asrkit extract)",
    ),
    "feats unknown": ("feats.scp", "u2 ", "u1a ", "feats.scp:2: u1a is not in utt2spk"),
    "cmvn unknown": ("cmvn.scp", "s2 ", "s3 ", "cmvn.scp:2: s3 is not in utt2spk"),
    "feats at a wrong place": ("feats.scp", "feats.ark:3", "feats.ark:4", "feats.scp:1: "),
    "unknown sex": ("spk2gender", "s2 m", "s2 w", "spk2gender:2: speaker s2: expected m or f, found w"),
}
CONSEQUENCES = {
    "segment of nothing": 1,
    "ctm of others": 3,  # unsorted, and u1 is short of a phone
    "feats missing": 2,
    "feats unknown": 2,
    "cmvn unknown": 2,
    "ctm shorter than text": 1,
    "not UTF-8": 2,  # what stands for the bad byte is in no token list either
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault(data, kind, capsys):
    name, old, new, expected = FAULTS[kind]
    change(data / name, old, new)
    found = faults_of(data)
    assert any(fault.startswith(expected) for fault in found), found
    assert len(found) <= CONSEQUENCES.get(kind, 1), found
    assert main(["validate", str(data)]) == 1
    lines = capsys.readouterr().out.split("\n")
    assert [line.removeprefix(f"{data}/") for line in lines[: len(found)]] == found
    assert lines[-2].endswith(f"; {len(found)} faults")


def test_audio_faults(data, tmp_path):
    (tmp_path / "u3.wav").unlink()
    (tmp_path / "u4.wav").write_text("this is no audio\n")
    content = (tmp_path / "r1.wav").read_bytes()
    (tmp_path / "r1.wav").write_bytes(content[:-2000])
    found = faults_of(data)
    assert len(found) == 3
    counts = "the header promises 16000 samples, the file holds 15000; get the whole file"
    assert found[0] == f"wav.scp:1: r1: {tmp_path}/r1.wav: {counts}"
    assert found[1] == f"wav.scp:2: u3: {tmp_path}/u3.wav: no such audio file"
    assert found[2].startswith(f"wav.scp:3: u4: {tmp_path}/u4.wav: not audio that can be read")


def test_several_channels_need_a_choice(data, tmp_path, capsys):
    for name, num_channels in (("r1", 2), ("u3", 3)):
        samples = np.random.default_rng(0).uniform(-0.1, 0.1, (2 * RATE if name == "r1" else RATE, num_channels))
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE)
    change(data / "wav.scp", f"u4 {tmp_path}/u4.wav", f"u4 cat {tmp_path}/u3.wav |")
    remedy = "expected 1: choose one by number from 0 (--channel 0), or mix them (--channel mix)"
    assert faults_of(data, allow_pipes=True) == [
        f"wav.scp:1: r1: {tmp_path}/r1.wav: 2 channels; {remedy}",
        f"wav.scp:2: u3: {tmp_path}/u3.wav: 3 channels; {remedy}",
        f"wav.scp:3: u4: cat {tmp_path}/u3.wav |: 3 channels; {remedy}",
    ]
    assert faults_of(data, allow_pipes=True, channel="mix") == []
    assert faults_of(data, allow_pipes=True, channel=1) == []
    options = ["validate", str(data), "--allow-pipes", "--channel"]
    assert main([*options, "mix"]) == 0
    capsys.readouterr()
    assert main([*options, "2"]) == 1
    counted = f"wav.scp:1: r1: {tmp_path}/r1.wav: no channel 2; the file has 2, counted from 0"
    assert capsys.readouterr().out.splitlines()[0] == f"{data}/{counted}"


def test_many_faults_at_once(data, tmp_path):
    """Faults in different files do not hide each other."""
    for kind in ("unsorted", "unsorted speakers", "not in utt2dur", "segment past the end", "utt2dur", "feats missing"):
        name, old, new, _ = FAULTS[kind]
        change(data / name, old, new)
    (tmp_path / "u4.wav").unlink()
    found = faults_of(data)
    for kind in ("unsorted", "unsorted speakers", "not in utt2dur", "segment past the end", "feats missing"):
        assert FAULTS[kind][3] in found
    assert any("no such audio file" in fault for fault in found)
    assert any(": 1.011 s stated" in fault for fault in found)


def test_pipes_run_only_with_leave(data, tmp_path):
    change(data / "wav.scp", f"u4 {tmp_path}/u4.wav", f"u4 touch {tmp_path}/ran; cat {tmp_path}/u4.wav |")
    assert faults_of(data) == ["wav.scp:3: u4 is a pipe; give --allow-pipes to run it, if you trust this data"]
    assert not (tmp_path / "ran").exists()
    assert faults_of(data, allow_pipes=True) == []
    assert (tmp_path / "ran").exists()
    change(data / "wav.scp", "cat", "false; exit 7; cat")
    (fault,) = faults_of(data, allow_pipes=True)
    assert "wav.scp:3: u4: " in fault and "failed with status 7" in fault


def test_relative_audio_and_tokens(data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir("/")
    content = (data / "wav.scp").read_text()
    (data / "wav.scp").write_text(content.replace(f"{tmp_path}/", ""))
    assert len(faults_of(data)) == 3
    assert main(["validate", str(data), "--audio-root", str(tmp_path)]) == 0
    TokenTable(["a"]).write(tmp_path / "other.txt")
    capsys.readouterr()
    assert main(["validate", str(data), "--audio-root", str(tmp_path), "--tokens", str(tmp_path / "other.txt")]) == 1
    assert capsys.readouterr().out.count("not in the token list") == 4
    (data.parent / "tokens.txt").unlink()
    assert main(["validate", str(data), "--audio-root", str(tmp_path)]) == 0
    assert "tokens not checked; 0 faults" in capsys.readouterr().out


def test_no_directory_and_no_tokens(tmp_path, capsys):
    assert main(["validate", str(tmp_path / "none")]) == 1
    assert "none: no such directory; a data directory is made by stage 0" in capsys.readouterr().out
    assert main(["validate", str(tmp_path), "--tokens", str(tmp_path / "none")]) == 1
    assert "asrkit validate: error: " in capsys.readouterr().err


def test_loads_no_torch(data):
    program = (
        "import sys; from asrkit.cli.main import main; code = main(['validate', sys.argv[1]]);"
        "print(sorted({'torch', 'librosa', 'numba', 'scipy'} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(data)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.parametrize(("part", "num_utts", "num_speakers"), [("train", 2500, 125), ("test", 500, 25)])
def test_speechocean762_as_downloaded(part, num_utts, num_speakers, capsys):
    corpus = shared_or_skip("data/speechocean762")
    assert main(["validate", str(corpus / part), "--audio-root", str(corpus)]) == 0
    assert f": {num_utts} utterances, {num_speakers} speakers, " in capsys.readouterr().out
