import contextlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.audio import AudioAccess, read_audio
from asrkit.cli.main import main
from asrkit.errors import DataError, InUseError
from asrkit.features import extract as extract_module
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import _Extract, extract_data_dir
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import FeatureLoader
from asrkit.io import notes as notes_module
from asrkit.io.ark import ArkReader, ArkWriter
from asrkit.io.lock import lock_dir
from asrkit.io.processes import HOST
from asrkit.io.scp import read_table, write_table
from asrkit.io.stamp import expect_right
from asrkit.parallel import make_executor
from tests.backends import extractor_or_skip

CONFIG = FeatureConfig(cmvn="speaker")
OUTPUTS = ["cmvn.ark", "cmvn.scp", "feats.1.ark", "feats.json", "feats.scp", "utt2num_frames"]
UTTS = {f"{spk}-{n:02d}": spk for spk in ("anna", "bert", "cora") for n in range(12)}


def write_wav(path: Path, seconds: float, seed: int, sample_rate: int = 16000) -> None:
    samples = np.random.default_rng(seed).normal(0, 3000, int(seconds * sample_rate)).astype(np.int16)
    soundfile.write(path, samples, sample_rate)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    for seed, utt in enumerate(UTTS):
        write_wav(tmp_path / "audio" / f"{utt}.wav", 0.2 + 0.01 * seed, seed)
    directory = tmp_path / "data"
    write_table(directory / "wav.scp", {utt: str(tmp_path / "audio" / f"{utt}.wav") for utt in UTTS})
    write_table(directory / "utt2spk", UTTS)
    return directory


@pytest.fixture
def small_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five utterances or more in each archive: eight archives for the 36 utterances."""
    monkeypatch.setattr(extract_module, "_UTTS_PER_ARCHIVE", 5)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def made(directory: Path) -> list[str]:
    """What extraction left there, hidden files included."""
    return sorted({path.name for path in directory.iterdir()} - {"wav.scp", "utt2spk", "segments"})


def wait_for_the_clock(directory: Path) -> None:
    """Until what is written is later than all that is there."""
    since = max(path.stat().st_ctime_ns for path in directory.iterdir())
    probe = directory.parent / "probe"
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > since:
            return probe.unlink()


def test_several_channels_need_a_choice(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = read_table(data_dir / "wav.scp")["anna-00"]
    samples, rate = soundfile.read(wav)
    soundfile.write(wav, np.stack([np.zeros_like(samples), samples], axis=1), rate)
    arguments = ["extract", str(data_dir), "--nj", "1"]
    assert main(arguments) == 1
    assert "2 channels; expected 1" in capsys.readouterr().err
    for utt, path in read_table(data_dir / "wav.scp").items():
        if utt != "anna-00":
            soundfile.write(path, np.stack([soundfile.read(path)[0]] * 2, axis=1), rate)
    assert main([*arguments, "--channel", "1"]) == 0
    expected = FeatureExtractor(CONFIG)(read_audio(wav, channel=1))
    np.testing.assert_array_equal(ArkReader(data_dir / "feats.scp")["anna-00"], expected)
    assert main([*arguments, "--channel", "mix"]) == 0
    assert "up to date" not in capsys.readouterr().err


def test_what_is_written(data_dir: Path) -> None:
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert made(data_dir) == sorted([*OUTPUTS, ".feats.stamp"])
    feats, cmvn = ArkReader(data_dir / "feats.scp"), ArkReader(data_dir / "cmvn.scp")
    assert list(feats) == sorted(UTTS)
    assert list(cmvn) == ["anna", "bert", "cora"]
    extract = FeatureExtractor(CONFIG)
    wavs = read_table(data_dir / "wav.scp")
    expected = {utt: extract(read_audio(wavs[utt])) for utt in UTTS}
    for utt in UTTS:
        np.testing.assert_array_equal(feats[utt], expected[utt])
    for spk in cmvn:
        mine = np.concatenate([expected[utt] for utt in UTTS if UTTS[utt] == spk])
        np.testing.assert_allclose(cmvn[spk], accumulate(mine), rtol=1e-10)
    assert read_table(data_dir / "utt2num_frames") == {utt: str(len(expected[utt])) for utt in UTTS}
    assert FeatureLoader(data_dir, CONFIG)["anna-00"].shape == (len(expected["anna-00"]), 39)
    settings = json.loads((data_dir / "feats.json").read_text())
    audio = {"channel": "error", "audio_root": None}
    assert settings == {"backend": extract.backend, **audio, **CONFIG.static_settings()}


@pytest.mark.parametrize("backend", ["auto", pytest.param("numpy", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("small_archives")
def test_any_number_of_jobs_writes_the_same_bytes(data_dir: Path, backend: str) -> None:
    config = FeatureConfig(dither=1.0, num_mel_bins=60, num_ceps=60, backend=backend)
    found = []
    for num_jobs in (1, 2, 3):
        assert extract_data_dir(data_dir, config, num_jobs=num_jobs, force=True)
        found.append(contents(data_dir))
    assert found[0] == found[1] == found[2]
    assert {f"feats.{number}.ark" for number in range(1, 9)} < set(found[0])


@pytest.mark.usefixtures("small_archives")
def test_archives_hold_about_the_same_number_in_order(data_dir: Path) -> None:
    extract_data_dir(data_dir, CONFIG, num_jobs=2)
    places = read_table(data_dir / "feats.scp")
    assert list(places) == sorted(UTTS)
    archives = [place.partition(":")[0] for place in places.values()]
    numbers = [int(Path(archive).name.split(".")[1]) for archive in archives]
    assert numbers == sorted(numbers)
    assert sorted(set(numbers)) == list(range(1, 9))
    assert {numbers.count(number) for number in numbers} == {4, 5}
    assert sum(len(feats) for feats in ArkReader(data_dir / "feats.scp").values()) == sum(
        int(count) for count in read_table(data_dir / "utt2num_frames").values()
    )


def test_number_of_archives_follows_from_the_number_of_utterances() -> None:
    def number_of(utterances: int) -> int:
        source = extract_module._Source("u", "s", "none.wav", None, None)
        return len(extract_module._divide([source] * utterances, {}, {"none.wav": None}, "feats.scp"))

    assert [number_of(n) for n in (1, 50, 51, 500, 3200, 3201, 20000)] == [1, 1, 2, 10, 64, 64, 64]


@pytest.mark.usefixtures("small_archives")
def test_a_killed_extraction_goes_on_with_what_is_not_done(data_dir: Path) -> None:
    """The 20th utterance is a command that kills the process that reads it, as long as a file is missing."""
    wavs, flag = read_table(data_dir / "wav.scp"), data_dir.parent / "flag"
    victim = sorted(UTTS)[19]
    wavs[victim] = f"test -e {flag} && cat {wavs[victim]} || kill -9 $PPID |"
    write_table(data_dir / "wav.scp", wavs)
    script = (
        "import sys, asrkit.features.extract as extract; from asrkit.cli.main import main\n"
        "extract._UTTS_PER_ARCHIVE = 5\n"
        "if __name__ == '__main__': sys.exit(main(sys.argv[1:]))\n"
    )
    (data_dir.parent / "run.py").write_text(script)
    command = [sys.executable, data_dir.parent / "run.py", "extract", data_dir, "--nj", "1", "--allow-pipes"]

    killed = subprocess.run(command, capture_output=True)
    assert killed.returncode != 0
    assert not (data_dir / "feats.scp").exists()
    done = {path.name: path.stat().st_mtime_ns for path in data_dir.glob("feats.*.ark")}
    assert set(done) == {"feats.1.ark", "feats.2.ark", "feats.3.ark", "feats.4.ark"}

    flag.touch()
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "archives: 4/4" in finished.stderr
    for name, time in done.items():
        assert (data_dir / name).stat().st_mtime_ns == time
    after_kill = contents(data_dir)
    assert not (data_dir / ".feats.jobs").exists()
    extract_data_dir(data_dir, CONFIG, num_jobs=2, access=AudioAccess(allow_pipes=True), force=True)
    assert contents(data_dir) == after_kill


@pytest.mark.usefixtures("small_archives")
def test_archives_that_no_longer_fit_are_made_again(data_dir: Path) -> None:
    """After a run that failed: those whose audio or settings changed, whose record is damaged, and those of no job."""
    wavs = read_table(data_dir / "wav.scp")
    last = Path(wavs["cora-11"])
    good = last.read_bytes()
    last.write_text("no audio")
    with pytest.raises(DataError):
        extract_data_dir(data_dir, CONFIG, num_jobs=1)
    archives = {number: data_dir / f"feats.{number}.ark" for number in range(1, 9)}
    assert [number for number, path in archives.items() if path.exists()] == [1, 2, 3, 4, 5, 6, 7]
    before = {number: path.stat().st_mtime_ns for number, path in archives.items() if path.exists()}
    write_wav(Path(wavs["anna-00"]), 0.5, 99)
    (data_dir / ".feats.jobs" / "2.json").write_text("{")
    archives[3].unlink()
    last.write_bytes(good)
    (data_dir / "feats.9.ark").write_bytes(b"of a larger corpus")
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)
    again = [number for number, time in before.items() if archives[number].stat().st_mtime_ns != time]
    assert again == [1, 2, 3]
    assert not (data_dir / "feats.9.ark").exists()
    assert len(ArkReader(data_dir / "feats.scp")["anna-00"]) == 48
    found = contents(data_dir)
    extract_data_dir(data_dir, CONFIG, num_jobs=1, force=True)
    assert contents(data_dir) == found


def test_done_once_until_something_changes(data_dir: Path) -> None:
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=2)
    assert not extract_data_dir(data_dir, FeatureConfig(cmvn="none", delta_order=0), num_jobs=1)
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1, force=True)

    assert extract_data_dir(data_dir, FeatureConfig(num_ceps=12), num_jobs=1)
    assert ArkReader(data_dir / "feats.scp")["anna-00"].shape[1] == 12
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)

    write_wav(Path(read_table(data_dir / "wav.scp")["bert-03"]), 0.7, 99)
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert len(ArkReader(data_dir / "feats.scp")["bert-03"]) == 68

    write_table(data_dir / "utt2spk", {**UTTS, "anna-00": "dora"})
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert "dora" in ArkReader(data_dir / "cmvn.scp")

    (data_dir / "cmvn.ark").unlink()
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)


def test_records_of_jobs_are_removed_before_another_run_can_make_its_own(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, faults = shutil.rmtree, []

    def begin_another() -> None:
        with lock_dir(data_dir, "extract"):
            pass

    def note(path: Path) -> None:
        with ThreadPoolExecutor(1) as executor:
            faults.append(executor.submit(begin_another).exception())
        remove(path)

    monkeypatch.setattr(extract_module.shutil, "rmtree", note)
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert [type(fault) for fault in faults] == [InUseError]
    assert not (data_dir / ".feats.jobs").exists()


def test_content_counts_not_time_or_place(data_dir: Path, tmp_path: Path) -> None:
    """A moved and touched directory is up to date; then its tables name its new place, byte for byte as made there."""
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    before = contents(data_dir)
    for path in (tmp_path / "audio").iterdir():
        os.utime(path, (0, 0))
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert contents(data_dir) == before

    moved = tmp_path / "elsewhere" / "data"
    shutil.copytree(tmp_path / "audio", tmp_path / "elsewhere" / "audio", copy_function=shutil.copy)
    data_dir.rename(moved)
    shutil.rmtree(tmp_path / "audio")
    places = {
        utt: place.replace("/audio/", "/elsewhere/audio/") for utt, place in read_table(moved / "wav.scp").items()
    }
    write_table(moved / "wav.scp", places)
    loaded = FeatureLoader(moved, CONFIG)
    assert len(loaded["anna-00"]) == 18  # before the tables are corrected
    assert not extract_data_dir(moved, CONFIG, num_jobs=1)
    found = contents(moved)
    changed = {name for name in before if found[name] != before[name]}
    assert changed == {"wav.scp", "feats.scp", "cmvn.scp", ".feats.stamp"}
    assert ArkReader(moved / "feats.scp").archives == [str(moved / "feats.1.ark")]
    assert not extract_data_dir(moved, CONFIG, num_jobs=1)
    assert contents(moved) == found
    assert extract_data_dir(moved, CONFIG, num_jobs=1, force=True)
    assert contents(moved) == found


def test_a_copy_is_read_where_it_is(data_dir: Path, tmp_path: Path) -> None:
    """Not from the directory that it was copied from, which its tables name; features of other tools are."""
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    shutil.copytree(data_dir, tmp_path / "copy")
    expected = np.array(FeatureLoader(data_dir, CONFIG)["anna-00"])
    extract_data_dir(data_dir, replace(CONFIG, preemphasis=0.5), num_jobs=1)
    np.testing.assert_array_equal(FeatureLoader(tmp_path / "copy", CONFIG)["anna-00"], expected)
    (tmp_path / "copy" / ".feats.stamp").unlink()
    (tmp_path / "copy" / "feats.1.ark").write_bytes(b"not what feats.scp names")
    assert not np.array_equal(FeatureLoader(tmp_path / "copy", CONFIG)["anna-00"], expected)


def test_another_audio_root_is_noted_and_nothing_is_computed(data_dir: Path, tmp_path: Path) -> None:
    write_table(data_dir / "wav.scp", {utt: f"audio/{utt}.wav" for utt in UTTS})
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1, access=AudioAccess(tmp_path))
    (tmp_path / "audio").rename(tmp_path / "sound")
    write_table(data_dir / "wav.scp", {utt: f"{utt}.wav" for utt in UTTS})
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=1, access=AudioAccess(tmp_path / "sound"))
    settings = json.loads((data_dir / "feats.json").read_text())
    assert settings["audio_root"] == str(tmp_path / "sound")
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=1, access=AudioAccess(tmp_path / "sound"))


def test_an_interrupted_correction_is_taken_up(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    moved = data_dir.rename(tmp_path / "moved")

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    archive = (moved / "feats.1.ark").stat().st_mtime_ns
    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(extract_module, "name_new_place", interrupt)
            extract_data_dir(moved, CONFIG, num_jobs=1)
    assert not extract_data_dir(moved, CONFIG, num_jobs=1)
    assert (moved / "feats.1.ark").stat().st_mtime_ns == archive
    assert ArkReader(moved / "cmvn.scp").archives == [str(moved / "cmvn.ark")]
    expect_right(moved / ".feats.stamp", "x")


def test_what_no_time_tells_is_found_when_asked(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that does not tell when a file was changed, here one whose every file has the same times."""
    monkeypatch.setattr(notes_module, "_WORTH_KEEPING", 0)
    monkeypatch.setattr(notes_module, "_state", lambda status: [status.st_size, 0, 0, 0])
    wav = Path(read_table(data_dir / "wav.scp")["bert-03"])
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)
    wait_for_the_clock(data_dir)
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=1, access=AudioAccess(verify=True))
    before, time = contents(data_dir), wav.stat().st_mtime_ns
    write_wav(wav, 0.35, 99)
    os.utime(wav, ns=(time, time))
    archive = data_dir / "feats.1.ark"
    later = max(path.stat().st_ctime_ns for path in (wav, archive)) + 1
    for notes in data_dir.glob(".*.notes"):
        os.utime(notes, ns=(later, later))
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert contents(data_dir) == before
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1, access=AudioAccess(verify=True))
    assert contents(data_dir)["feats.1.ark"] != before["feats.1.ark"]


def test_commands_are_run_again_when_asked(data_dir: Path) -> None:
    wavs = read_table(data_dir / "wav.scp")
    write_table(data_dir / "wav.scp", {**wavs, "bert-03": f"cat {wavs['bert-03']} |"})
    access = AudioAccess(allow_pipes=True)
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1, access=access)
    before = contents(data_dir)
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1, access=replace(access, verify=True))
    assert contents(data_dir) == before
    write_wav(Path(wavs["bert-03"]), 0.7, 99)
    assert not extract_data_dir(data_dir, CONFIG, num_jobs=1, access=access)
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1, access=replace(access, verify=True))
    assert len(ArkReader(data_dir / "feats.scp")["bert-03"]) == 68


def test_an_extraction_goes_on_where_it_was_moved_to(data_dir: Path, tmp_path: Path) -> None:
    wavs = read_table(data_dir / "wav.scp")
    last = Path(wavs["cora-11"])
    good = last.read_bytes()
    last.write_text("no audio")
    with pytest.raises(DataError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_module, "_UTTS_PER_ARCHIVE", 5)
        extract_data_dir(data_dir, CONFIG, num_jobs=1)
    last.write_bytes(good)
    moved = data_dir.rename(tmp_path / "moved")
    done = (moved / "feats.1.ark").stat().st_mtime_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_module, "_UTTS_PER_ARCHIVE", 5)
        assert extract_data_dir(moved, CONFIG, num_jobs=1)
    assert (moved / "feats.1.ark").stat().st_mtime_ns == done
    assert ArkReader(moved / "feats.scp").archives == [str(moved / f"feats.{number}.ark") for number in range(1, 9)]


def test_every_utterance_that_fails_is_named(data_dir: Path) -> None:
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    wavs = read_table(data_dir / "wav.scp")
    Path(wavs["anna-01"]).unlink()
    Path(wavs["bert-07"]).write_text("no audio")
    write_wav(Path(wavs["cora-11"]), 0.02, 0)
    with pytest.raises(DataError) as caught:
        extract_data_dir(data_dir, CONFIG, num_jobs=2)
    faults = str(caught.value).split("\n")
    assert len(faults) == 4
    assert faults[0].startswith(f"{data_dir}: utterance anna-01: {wavs['anna-01']}: ")
    assert faults[1].startswith(f"{data_dir}: utterance bert-07: {wavs['bert-07']}: ")
    assert faults[2].startswith(f"{data_dir}: utterance cora-11: 320 samples (20.0 ms); expected one frame or more")
    assert faults[3] == (
        f"{data_dir}: 3 of 36 utterances failed; no feats.scp was written (finished archives are kept for the next try)"
    )
    assert made(data_dir) == [".feats.jobs"]


def test_what_a_killed_run_left_is_cleared_away(data_dir: Path) -> None:
    (data_dir / f".feats.1.ark.tmp-{HOST}-999999999-1-00").write_bytes(b"half")
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert made(data_dir) == sorted([*OUTPUTS, ".feats.stamp"])


def test_an_interrupted_run_leaves_no_features(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract_data_dir(data_dir, CONFIG, num_jobs=1)

    def interrupt(self: ArkWriter, key: str, values: np.ndarray) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ArkWriter, "write", interrupt)
        patch.setattr(extract_module, "map_ordered", lambda function, items, *_, **__: map(function, items))
        extract_data_dir(data_dir, CONFIG, num_jobs=1, force=True)
    assert made(data_dir) == [".feats.jobs"]
    assert extract_data_dir(data_dir, CONFIG, num_jobs=1)


def test_segments(data_dir: Path) -> None:
    whole = read_audio(read_table(data_dir / "wav.scp")["cora-11"])
    write_table(data_dir / "utt2spk", {"cora-a": "cora", "cora-b": "cora"})
    write_table(data_dir / "segments", {"cora-a": "cora-11 0.1 0.3", "cora-b": "cora-11 0.25 0.5"})
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    feats = ArkReader(data_dir / "feats.scp")
    assert list(feats) == ["cora-a", "cora-b"]
    expected = FeatureExtractor(CONFIG)(whole)
    np.testing.assert_allclose(feats["cora-a"], expected[10:28], atol=1e-4)
    np.testing.assert_allclose(feats["cora-b"], expected[25:48], atol=1e-4)


def test_audio_is_resampled(data_dir: Path) -> None:
    write_wav(Path(read_table(data_dir / "wav.scp")["anna-00"]), 1.0, 0, sample_rate=22050)
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert len(ArkReader(data_dir / "feats.scp")["anna-00"]) == 98


def test_tables_that_disagree(data_dir: Path) -> None:
    wavs = read_table(data_dir / "wav.scp")
    write_table(data_dir / "wav.scp", {"x": "cat x.wav |", **{utt: wavs[utt] for utt in UTTS if utt != "anna-00"}})
    with pytest.raises(DataError) as caught:
        extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert str(caught.value).split("\n") == [
        f"{data_dir}/wav.scp: no line for anna-00, which utt2spk has",
        f"{data_dir}/utt2spk: no line for x, which wav.scp has",
        f"{data_dir}/wav.scp: x is a pipe; give --allow-pipes if you trust this data",
    ]


def test_faulty_segments(data_dir: Path) -> None:
    write_table(data_dir / "utt2spk", {"a": "s", "b": "s", "c": "s"})
    write_table(data_dir / "segments", {"a": "anna-00 0 x", "b": "zoe 0 1", "c": "anna-00 0"})
    with pytest.raises(DataError) as caught:
        extract_data_dir(data_dir, CONFIG, num_jobs=1)
    assert str(caught.value).split("\n") == [
        f"{data_dir}/segments: a anna-00 0 x; expected `recording start end` in seconds",
        f"{data_dir}/wav.scp: no line for recording zoe of b",
        f"{data_dir}/segments: c anna-00 0; expected `recording start end` in seconds",
    ]


def heavy_modules(extract: _Extract) -> list[str]:
    assert extract.extractor.num_static == 13
    return [name for name in ("torch", "librosa", "numba") if name in sys.modules]


def test_workers_stay_light() -> None:
    import torch  # noqa: F401  (loaded here, it must not be loaded there)

    with make_executor(2) as executor:
        assert executor.submit(heavy_modules, _Extract(Path(), CONFIG, AudioAccess())).result() == []


def test_command(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("features:\n  num_ceps: 12\n")
    relative = {utt: f"{utt}.wav" for utt in UTTS}
    write_table(data_dir / "wav.scp", relative)
    arguments = ["extract", data_dir, "--nj", "1", "--config", settings, "--audio-root", tmp_path / "audio"]
    assert main(list(map(str, arguments))) == 0
    assert ArkReader(data_dir / "feats.scp")["anna-00"].shape[1] == 12
    assert "up to date" not in capsys.readouterr().err
    assert main(list(map(str, arguments))) == 0
    assert capsys.readouterr() == ("", f"{data_dir}: features are up to date\n")
    assert main(["extract", str(tmp_path / "none"), str(data_dir), "--nj", "1"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.split("\n") if ": error: " in line]
    assert errors[0] == f"asrkit extract: error: {tmp_path}/none/wav.scp: not found; made by stage 0 (asrkit prepare)"
    assert errors[-1].startswith(f"asrkit extract: error: {data_dir}: 36 of 36 utterances failed; no feats.scp was")
    assert not (data_dir / "feats.scp").exists()


def test_backend_option(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(data_dir), "--nj", "1", "--backend", "numpy"]) == 0
    assert json.loads((data_dir / "feats.json").read_text())["backend"] == "numpy"
    expected = FeatureExtractor(replace(CONFIG, backend="numpy"))(
        read_audio(read_table(data_dir / "wav.scp")["anna-00"]), "anna-00"
    )
    np.testing.assert_allclose(ArkReader(data_dir / "feats.scp")["anna-00"], expected, atol=1e-4)
    with pytest.raises(SystemExit) as caught:
        main(["extract", str(data_dir), "--backend", "kaldi"])
    assert caught.value.code == 2


def test_a_backend_that_is_not_there(data_dir: Path) -> None:
    """One line and no traceback, before anything is touched."""
    extract_data_dir(data_dir, CONFIG, num_jobs=1)
    before = contents(data_dir)
    run = [sys.executable, "-m", "asrkit", "extract", data_dir, "--backend", "native", "--nj", "1"]
    done = subprocess.run(run, env={**os.environ, "ASRKIT_NO_NATIVE": "1"}, capture_output=True, text=True)
    assert done.returncode == 1
    errors = [line for line in done.stderr.split("\n") if ": error: " in line]
    assert len(errors) == 1
    assert errors[0].startswith("asrkit extract: error: features.backend: native, but the compiled kernel is missing;")
    assert contents(data_dir) == before


def test_the_fallback_is_reported_once(data_dir: Path) -> None:
    run = [sys.executable, "-m", "asrkit", "extract", data_dir, "--nj", "2"]
    done = subprocess.run(run, env={**os.environ, "ASRKIT_NO_NATIVE": "1"}, capture_output=True, text=True, check=True)
    assert done.stderr.count("NumPy fallback") == 1
    assert json.loads((data_dir / "feats.json").read_text())["backend"] == "numpy"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torchaudio", "librosa"])
def test_other_backends(data_dir: Path, backend: str, small_archives: None) -> None:
    """In batches where the backend takes them; one utterance that fails does not hide the others, or its name."""
    config = FeatureConfig(backend=backend, dither=1.0)
    extract = extractor_or_skip(config)
    wavs = read_table(data_dir / "wav.scp")
    write_wav(Path(wavs["bert-07"]), 0.02, 0)
    with pytest.raises(DataError) as caught:
        extract_data_dir(data_dir, config, num_jobs=2)
    faults = str(caught.value).split("\n")
    assert len(faults) == 2
    assert faults[0].startswith(f"{data_dir}: utterance bert-07: 320 samples (20.0 ms); expected one frame or more")
    write_wav(Path(wavs["bert-07"]), 0.2, 0)
    assert extract_data_dir(data_dir, config, num_jobs=1)
    feats = ArkReader(data_dir / "feats.scp")
    for utt in UTTS:
        np.testing.assert_allclose(feats[utt], extract(read_audio(wavs[utt]), utt), atol=1e-3)
    with pytest.raises(DataError) if backend == "librosa" else contextlib.nullcontext():
        FeatureLoader(data_dir, FeatureConfig(dither=1.0, cmvn="speaker"))
