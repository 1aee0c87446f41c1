import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.audio import AudioAccess, read_audio
from asrkit.errors import AudioError, DataError
from asrkit.features.audio_table import AudioTable
from asrkit.io.scp import write_table


def write_audio(path: Path, seconds: float, seed: int, sample_rate: int = 16000, channels: int = 1) -> str:
    noise = np.random.default_rng(seed).normal(0, 3000, (int(seconds * sample_rate), channels))
    soundfile.write(path, noise.astype(np.int16), sample_rate)
    return str(path)


def test_whole_recordings(tmp_path: Path) -> None:
    wav = {f"utt{i}": write_audio(tmp_path / f"{i}.wav", 0.1 + 0.1 * i, i) for i in range(3)}
    write_table(tmp_path / "wav.scp", wav)
    table = pickle.loads(pickle.dumps(AudioTable(tmp_path, 16000)))
    table.check(wav)
    for utt_id, path in wav.items():
        np.testing.assert_array_equal(table[utt_id].samples, read_audio(path).samples)


def test_segments_a_channel_another_rate_and_relative_paths(tmp_path: Path) -> None:
    write_audio(tmp_path / "rec.wav", 2.0, 1, 8000, channels=2)
    write_table(tmp_path / "wav.scp", {"rec": "rec.wav"})
    write_table(tmp_path / "segments", {"a": "rec 0.25 0.75", "b": "rec 1.5 2.0"})
    access = AudioAccess(tmp_path, channel=1)
    table = AudioTable(tmp_path, 16000, access)
    table.check(["a", "b"])
    expected = access.load("rec.wav", sample_rate=16000, start=0.25, end=0.75)
    np.testing.assert_array_equal(table["a"].samples, expected.samples)
    assert len(table["b"].samples) == 8000


def test_all_faults_are_found_before_any_audio_is_read(tmp_path: Path) -> None:
    write_table(
        tmp_path / "wav.scp", {"a": "/nowhere/a.wav", "b": "cat b.wav |", "c": write_audio(tmp_path / "c.wav", 1, 1)}
    )
    with pytest.raises(DataError) as error:
        AudioTable(tmp_path, 16000).check(["a", "b", "c", "d"])
    assert str(error.value).split("\n") == [
        f"{tmp_path}/wav.scp: no line for d",
        f"{tmp_path}/wav.scp: a: /nowhere/a.wav: no such file; bring it back, or correct its path",
        f"{tmp_path}/wav.scp: b is a pipe; to compute with it, write its audio to a file",
    ]
    write_table(tmp_path / "segments", {"x": "c 0", "y": "e 0 1"})
    with pytest.raises(DataError) as error:
        AudioTable(tmp_path, 16000).check(["x", "y", "z"])
    assert str(error.value).split("\n")[:3] == [
        f"{tmp_path}/segments: no line for z",
        f"{tmp_path}/segments: x c 0; expected `recording start end` in seconds",
        f"{tmp_path}/wav.scp: no line for recording e of y",
    ]


@pytest.mark.parametrize(("ending", "sample_rate"), [("flac", 16000), ("wav", 8000)])
def test_slow_audio_is_decoded_once(tmp_path: Path, ending: str, sample_rate: int) -> None:
    wav = {f"utt{i}": write_audio(tmp_path / f"{i}.{ending}", 0.2 + 0.1 * i, i, sample_rate) for i in range(3)}
    write_table(tmp_path / "wav.scp", wav)
    expected = {utt_id: read_audio(path, sample_rate=16000).samples for utt_id, path in wav.items()}
    table = AudioTable(tmp_path, 16000)
    table.decode_once(list(wav))
    made = (tmp_path / ".audio.ark").stat().st_mtime_ns
    again = AudioTable(tmp_path, 16000)
    again.decode_once(list(wav))
    assert (tmp_path / ".audio.ark").stat().st_mtime_ns == made
    for utt_id, samples in expected.items():
        np.testing.assert_array_equal(again[utt_id].samples, samples)

    write_audio(Path(wav["utt1"]), 0.5, 9, sample_rate)  # changed audio is decoded anew
    changed = AudioTable(tmp_path, 16000)
    changed.decode_once(list(wav))
    assert len(changed["utt1"].samples) == 8000


def test_decoded_audio_is_found_where_it_was_moved_to(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for number in range(3):
        write_audio(here / f"{number}.flac", 0.2 + 0.1 * number, number)
    write_table(here / "wav.scp", {f"utt{number}": f"{number}.flac" for number in range(3)})
    table = AudioTable(here, 16000, AudioAccess(here))
    table.decode_once(["utt0", "utt1", "utt2"])
    expected, made = np.array(table["utt2"].samples), (here / ".audio.ark").stat().st_mtime_ns
    here.rename(there)
    os.utime(there / "0.flac", (0, 0))
    moved = AudioTable(there, 16000, AudioAccess(there))
    moved.decode_once(["utt0", "utt1", "utt2"])
    assert (there / ".audio.ark").stat().st_mtime_ns == made
    np.testing.assert_array_equal(moved["utt2"].samples, expected)


def test_wav_files_at_the_right_rate_are_left_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "wav.scp", {"a": write_audio(tmp_path / "a.wav", 0.5, 1)})
    table = AudioTable(tmp_path, 16000)
    table.decode_once(["a"])
    assert not list(tmp_path.glob(".audio*"))
    assert len(table["a"].samples) == 8000


def test_damaged_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF no audio")
    write_table(tmp_path / "wav.scp", {"a": str(tmp_path / "a.wav")})
    with pytest.raises(AudioError, match=r"a\.wav"):
        AudioTable(tmp_path, 16000)["a"]
