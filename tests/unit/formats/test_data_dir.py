"""Data directories: what is written is read back, foreign ones are read, and every fault is named at once."""

import os
from pathlib import Path

import pytest

from asrkit.audio import AudioAccess
from asrkit.errors import DataError
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.types import PhoneTime, Utterance

# Symbols that FarsDat and IPA use; none may be taken for a separator, comment or escape.
PHONES = ("'", "#", ",", "]", "<", "\\", "ɑː", "t͡ʃ", "\u2028")


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def faults_of(function, *args, **kwargs):
    with pytest.raises(DataError) as caught:
        function(*args, **kwargs)
    return str(caught.value).split("\n")


def whole_recordings():
    times = tuple(PhoneTime(phone, 0.1 * i, 0.1 * i + 0.05) for i, phone in enumerate(PHONES))
    return [
        Utterance("b-2", "b", "/audio/b 2.wav", PHONES, sex="f", phone_times=times),
        Utterance("b-1", "b", "sox /audio/b1.wav -t wav - |", ("x",), sex="f"),
        Utterance("a-1", "a", "/audio/a1.wav", ("y", "y")),
    ]


DURATIONS = {"a-1": 1.0, "b-1": 2.3456789, "b-2": 0.9}


def test_files(tmp_path):
    write_data_dir(tmp_path / "d", whole_recordings(), DURATIONS)
    content = {
        path.name: path.read_text().split("\n") for path in (tmp_path / "d").iterdir() if path.name != "phones.ctm"
    }
    assert content == {
        "wav.scp": ["a-1 /audio/a1.wav", "b-1 sox /audio/b1.wav -t wav - |", "b-2 /audio/b 2.wav", ""],
        "text": ["a-1 y y", "b-1 x", "b-2 " + " ".join(PHONES), ""],
        "utt2spk": ["a-1 a", "b-1 b", "b-2 b", ""],
        "spk2utt": ["a a-1", "b b-1 b-2", ""],
        "spk2gender": ["b f", ""],
        "utt2dur": ["a-1 1.000", "b-1 2.345679", "b-2 0.900", ""],
    }
    ctm = (tmp_path / "d" / "phones.ctm").read_text().split("\n")
    assert ctm[:2] == ["b-2 1 0.000 0.050 '", "b-2 1 0.100 0.050 #"]


def test_round_trip(tmp_path):
    write_data_dir(tmp_path / "d", whole_recordings(), DURATIONS)
    data = load_data_dir(tmp_path / "d", AudioAccess(allow_pipes=True))
    found = data.utterances()
    for utt, expected in zip(found, sorted(whole_recordings(), key=lambda utt: utt.utt_id), strict=True):
        for field in ("utt_id", "spk_id", "audio", "phones", "rec_id", "start", "end", "sex"):
            assert getattr(utt, field) == getattr(expected, field)
        for time, expected_time in zip(utt.phone_times, expected.phone_times, strict=True):
            assert time.phone == expected_time.phone
            assert (time.start, time.end) == pytest.approx((expected_time.start, expected_time.end), abs=1e-6)
    assert data.spk2utt() == {"a": ["a-1"], "b": ["b-1", "b-2"]}
    assert data.utt2dur["b-1"] == pytest.approx(DURATIONS["b-1"], abs=1e-6)
    write_data_dir(tmp_path / "again", found, data.utt2dur)
    for path in (tmp_path / "d").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_segments(tmp_path):
    """Sample positions survive the text: 1e-6 s is less than half a sample at any rate in use."""
    rate = 44100
    utts = [
        Utterance("u1", "s", "/r.wav", ("x",), rec_id="r", start=1001 / rate, end=22051 / rate),
        Utterance("u2", "s", "/q.wav", ("x",), rec_id="q"),
    ]
    write_data_dir(tmp_path / "d", utts, {"u1": 21050 / rate, "u2": 3.5})
    data = load_data_dir(tmp_path / "d")
    assert data.wav == {"q": "/q.wav", "r": "/r.wav"}
    assert data.segments["u2"] == ("q", 0.0, 3.5)
    found = data.utterances()[0]
    assert (found.rec_id, found.audio) == ("r", "/r.wav")
    assert (round(found.start * rate), round(found.end * rate)) == (1001, 22051)


def test_relative_audio_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_data_dir("d", [Utterance("u", "s", "sub/x.wav", ("x",))], {"u": 1.0})
    assert (tmp_path / "d" / "wav.scp").read_text() == f"u {os.getcwd()}/sub/x.wav\n"


def test_foreign_directory(tmp_path):
    folder = write(
        tmp_path / "d",
        wav_scp="u2\tsub/u2.wav\r\nu1 \t /abs/u1.wav\n",
        text="u1\tA  B\tC\nu2\tD\n",
        utt2spk="u2\ts\nu1 s\n",
    )
    found = load_data_dir(folder, AudioAccess(Path("/root/of/audio"))).utterances()
    assert [utt.audio for utt in found] == ["/abs/u1.wav", "/root/of/audio/sub/u2.wav"]
    assert [utt.phones for utt in found] == [("A", "B", "C"), ("D",)]
    assert load_data_dir(folder).wav["u2"] == os.path.abspath("sub/u2.wav")


def test_writing_replaces_the_whole_directory(tmp_path):
    folder = write(tmp_path / "d", old="x")
    write_data_dir(folder, whole_recordings(), DURATIONS)
    assert not (folder / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_writing_nothing_bad(tmp_path):
    bad = [
        Utterance("u1", "s", "/a.wav", ("x",), sex="f"),
        Utterance("u1", "s", "/b.wav", ("x",), sex="m"),
        Utterance("u2", "s", "/a.wav", ()),
        Utterance("u3", "s t", "/a.wav", ("x y",)),
        Utterance("u4", "s", "/a.wav", ("x",), start=2.0, end=1.0),
        Utterance("u5", "s", "/a.wav", ("x",), phone_times=(PhoneTime("y", 0, 1),), sex="F"),
        Utterance("u6", "s", "/a.wav", ("x", "y"), phone_times=(PhoneTime("x", 1, 2), PhoneTime("y", 0, 1))),
    ]
    lines = faults_of(write_data_dir, tmp_path / "d", bad, dict.fromkeys(["u1", "u2", "u3", "u5", "u6"], 1.0))
    for expected in (
        "u1: given twice",
        "u1: recording u1 is /b.wav and /a.wav",
        "u1: speaker s is both m and f",
        "u2: empty transcript",
        "u3: ids and phones must not be empty or hold blanks",
        "u4: length None",
        "u4: segment 2.0 to 1.0",
        "u5: the 1 phones with times are not the 1 of the transcript",
        "u5: sex F; expected m or f",
        "u6: phone times go back",
    ):
        assert sum(expected in line for line in lines) == 1, expected
    assert len(lines) == 11  # u5's sex is also unlike that of its speaker
    assert faults_of(write_data_dir, tmp_path / "d", [], {}) == [f"{tmp_path}/d: no utterances to write"]
    assert list(tmp_path.iterdir()) == []


def test_missing_files(tmp_path):
    assert faults_of(load_data_dir, tmp_path / "none") == [
        f"{tmp_path}/none: no such directory; a data directory is made by stage 0 (asrkit prepare)"
    ]
    folder = write(tmp_path / "d", wav_scp="")
    assert faults_of(load_data_dir, folder) == [
        f"{folder}/wav.scp: empty; expected a line for each utterance",
        f"{folder}/text: no such file",
        f"{folder}/utt2spk: no such file",
    ]


def test_pipes_are_faults_unless_allowed(tmp_path):
    folder = write(tmp_path / "d", wav_scp="u cat x |\n", text="u A\n", utt2spk="u s\n")
    assert "wav.scp:1: u is a pipe; give --allow-pipes" in faults_of(load_data_dir, folder)[0]
    assert load_data_dir(folder, AudioAccess(allow_pipes=True)).wav == {"u": "cat x |"}


def test_every_fault_at_once(tmp_path):
    folder = write(
        tmp_path / "d",
        wav_scp="u1 1.wav\nu2 2.wav\nu4 4.wav\n",
        text=b"u1 A\nu2\nu3 C\nu5 \xff\n",
        utt2spk="u1 s\nu2 s extra\nu3 t\nu5 t\n",
        spk2utt="s u1 u2\nt u3\nv u9\n",
        spk2gender="s f\nt x\nw m\n",
        utt2dur="u1 1.0\nu2 nan\nu3 soon\nu5 0\n",
        phones_ctm="u1 1 0.0 0.1 A\nu9 1 0 1 B\nu1 1 0.2 0.1 C\nu2 1 0.5 -1 B\n"
        "u3 1 0.5 0.1 B\nu3 1 0.4 0.1\nu3 1 0.3 .1 C\n",
    )
    expected = {
        "text:2: u2: empty transcript; give its phones or remove it",
        "text:4: not UTF-8 (byte 0xff in column 4); re-encode it",
        "utt2spk:2: expected `utt spk`, found u2 s extra",
        "spk2gender:2: speaker t: expected m or f, found x",
        "spk2gender:3: speaker w is not in utt2spk",
        "utt2dur:2: u2: expected a length in seconds, found nan",
        "utt2dur:3: u3: expected a length in seconds, found soon",
        "utt2dur:4: u5: expected a length in seconds, found 0",
        "phones.ctm:2: utterance u9 is not in utt2spk",
        "phones.ctm:3: u1 again after u9; sort by utterance and start",
        "phones.ctm:4: expected `utt channel start duration phone` in seconds, found u2 1 0.5 -1 B",
        "phones.ctm:6: expected `utt channel start duration phone` in seconds, found u3 1 0.4 0.1",
        "phones.ctm:7: u3: start 0.3 is before the line above; sort by utterance and start",
        "wav.scp:3: utterance u4 is not in utt2spk",
        "utt2spk:3: utterance u3 is not in wav.scp",
        "utt2spk:4: utterance u5 is not in wav.scp",
        "spk2utt:1: speaker s disagrees with utt2spk about u2; make spk2utt again from utt2spk",
        "spk2utt:2: speaker t disagrees with utt2spk about u5; make spk2utt again from utt2spk",
        "spk2utt:3: speaker v is not in utt2spk",
        "spk2utt: speakers of utt2spk are missing: s extra",
    }
    assert {line.removeprefix(f"{folder}/") for line in faults_of(load_data_dir, folder)} == expected


def test_faults_of_segments(tmp_path):
    folder = write(
        tmp_path / "d",
        wav_scp="r1 1.wav\nr2 2.wav\n",
        text="u1 A\nu2 B\n",
        utt2spk="u1 s\nu2 s\n",
        segments="u1 r1 0.5 0.4\nu2 r1 0\nu3 r1 -1 2\n",
    )
    assert {line.removeprefix(f"{folder}/") for line in faults_of(load_data_dir, folder)} == {
        "segments:1: u1: start 0.5 is not before end 0.4",
        "segments:2: expected `utt recording start end` in seconds, found u2 r1 0",
        "segments:3: expected `utt recording start end` in seconds, found u3 r1 -1 2",
        "segments:3: utterance u3 is not in utt2spk",
    }
    write(folder, segments="u1 r1 0 1\nu2 r3 0 1\n")
    assert {line.removeprefix(f"{folder}/") for line in faults_of(load_data_dir, folder)} == {
        "wav.scp:2: recording r2 is not in segments",
        "segments:2: recording r3 is not in wav.scp",
    }
