"""Features that are computed whenever they are read: the same bits as from archives, or one line that says why not."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.audio import AudioAccess
from asrkit.cli.main import main
from asrkit.errors import AsrkitError, ConfigError, DataError
from asrkit.features import extract as extract_module
from asrkit.features.cmvn import NORMALIZATIONS
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.features.pipeline import FeatureLoader, feats_input, pooled_stats
from asrkit.io.scp import read_table, write_table
from asrkit.io.stamp import fingerprint
from tests.backends import extractor_or_skip

CONFIG = FeatureConfig(backend="native")
UTTS = {f"{spk}-{n}": spk for spk in ("anna", "bert", "cora") for n in range(4)}
AGAIN = "repeat stage 1 (asrkit extract --no-archives)"


@pytest.fixture(autouse=True)
def needs_the_kernel() -> None:
    extractor_or_skip(CONFIG)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve utterances of noise that swells and fades, in three archives."""
    monkeypatch.setattr(extract_module, "_UTTS_PER_ARCHIVE", 5)
    (tmp_path / "audio").mkdir()
    for seed, utt in enumerate(UTTS):
        write_audio(tmp_path / f"audio/{utt}.wav", 0.3 + 0.02 * seed, seed)
    write_table(tmp_path / "data/wav.scp", {utt: str(tmp_path / f"audio/{utt}.wav") for utt in UTTS})
    write_table(tmp_path / "data/utt2spk", UTTS)
    return tmp_path / "data"


def write_audio(path: Path, seconds: float, seed: int, rate: int = 16000, channels: int = 1) -> None:
    num_samples = int(seconds * rate)
    samples = np.random.default_rng(seed).normal(0, 3000, (num_samples, channels))
    samples *= np.sin(np.linspace(0.05, 3, num_samples))[:, None]
    soundfile.write(path, samples.astype(np.int16), rate)


def extract(data_dir: Path, config: FeatureConfig = CONFIG, *, archives: bool, **options: object) -> bool:
    return extract_data_dir(data_dir, config, num_jobs=1, archives=archives, **options)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def identity(data_dir: Path) -> str:
    """What a training knows of the features that it was done with."""
    return fingerprint({"feats": feats_input(data_dir)})


def bits(data_dir: Path, config: FeatureConfig) -> list[object]:
    """All that training takes from a data directory."""
    stats = pooled_stats(data_dir, config)
    loader = pickle.loads(pickle.dumps(FeatureLoader(data_dir, config, stats)))
    by_index = FeatureLoader(data_dir, config, stats, loader.columns())
    found: list[object] = [stats.tobytes(), *loader.all_num_frames().items(), identity(data_dir)]
    for each in (loader, by_index):
        found += [(utt_id, each.num_frames(utt_id), each[utt_id].tobytes()) for utt_id in each]
        found += [each.static(utt_id).tobytes() for utt_id in reversed(each.utt_ids)]
    return found


def test_what_is_written(data_dir: Path) -> None:
    before = contents(data_dir)
    assert extract(data_dir, archives=True)
    stored = contents(data_dir)
    assert extract(data_dir, archives=False)
    found = contents(data_dir)
    speech = {"speech.scp", *(f"speech.{number}.ark" for number in (1, 2, 3))}
    made = {"cmvn.ark", "cmvn.scp", "feats.json", "utt2num_frames", ".feats.stamp"}
    assert set(found) == {*before, *made, *speech, "utt2crc"}
    for name in ("cmvn.ark", "cmvn.scp", "utt2num_frames"):
        assert found[name] == stored[name]
    archives = {name for name in stored if name.endswith(".ark") and name.startswith("feats.")}
    assert set(json.loads(found["feats.json"])["not_stored"]) == archives and len(archives) == 3
    # The form of the directory is up to date only as it is.
    assert not extract(data_dir, archives=False)
    assert contents(data_dir) == found
    assert extract(data_dir, archives=True)
    assert contents(data_dir) == stored
    assert extract(data_dir, archives=False)
    assert contents(data_dir) == found


@pytest.mark.parametrize("cmvn", NORMALIZATIONS)
def test_the_same_bits_in_each_mode_of_cmvn(data_dir: Path, cmvn: str) -> None:
    config = replace(CONFIG, cmvn=cmvn)
    extract(data_dir, config, archives=True)
    expected = bits(data_dir, config)
    extract(data_dir, config, archives=False)
    assert bits(data_dir, config) == expected


@pytest.mark.parametrize(
    "config", [FeatureConfig(backend="native", dither=1.0), FeatureConfig(backend="native", kind="fbank")]
)
def test_the_same_bits_of_segments_at_another_rate_in_another_channel(
    data_dir: Path, tmp_path: Path, config: FeatureConfig
) -> None:
    write_audio(tmp_path / "audio/long.flac", 9.0, 7, rate=22050, channels=2)
    write_table(data_dir / "wav.scp", {"long": "long.flac"})
    write_table(data_dir / "segments", {utt: f"long {i * 0.7:.2f} {i * 0.7 + 0.5:.2f}" for i, utt in enumerate(UTTS)})
    access = AudioAccess(tmp_path / "audio", channel=1)
    extract(data_dir, config, archives=True, access=access)
    expected = bits(data_dir, config)
    extract(data_dir, config, archives=False, access=access)
    assert bits(data_dir, config) == expected
    (tmp_path / "audio").rename(tmp_path / "moved")
    assert not extract(data_dir, config, archives=False, access=AudioAccess(tmp_path / "moved", channel=1))
    assert bits(data_dir, config) == expected


def test_any_number_of_jobs_writes_the_same_bytes(data_dir: Path) -> None:
    found = []
    for num_jobs in (1, 3):
        assert extract_data_dir(data_dir, CONFIG, num_jobs=num_jobs, force=True, archives=False)
        found.append(contents(data_dir))
    assert found[0] == found[1]


def test_an_interrupted_run_goes_on(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that was to store features: what it made does not stay."""
    extract(data_dir, archives=False)
    expected = contents(data_dir)
    join = extract_module._join
    computed = []

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    def note(self: object, job: extract_module._Job) -> list[str]:
        computed.append(job.number)
        return call(self, job)

    call = extract_module._Extract.__call__
    monkeypatch.setattr(extract_module._Extract, "__call__", note)
    for archives, number in ((True, 3), (False, 3), (False, 0)):
        computed.clear()
        monkeypatch.setattr(extract_module, "_join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            extract(data_dir, archives=archives, force=archives)
        assert len(computed) == number
        assert not {"feats.scp", "speech.scp"} & set(contents(data_dir))
    monkeypatch.setattr(extract_module, "_join", join)
    assert extract(data_dir, archives=False)
    assert computed == []
    assert contents(data_dir) == expected


def test_a_moved_directory_is_read_where_it_is(data_dir: Path, tmp_path: Path) -> None:
    extract(data_dir, archives=False)
    expected = bits(data_dir, CONFIG)
    moved = data_dir.rename(tmp_path / "moved")
    assert bits(moved, CONFIG) == expected
    assert not extract(moved, archives=False)
    assert str(data_dir) not in (moved / "speech.scp").read_text()
    assert bits(moved, CONFIG) == expected


def read_all(data_dir: Path) -> str:
    """The message of the error that reading ends with."""
    with pytest.raises(AsrkitError) as error:
        loader = FeatureLoader(data_dir, CONFIG, pooled_stats(data_dir, CONFIG))
        for utt_id in loader:
            loader[utt_id]
    return str(error.value)


def test_audio_that_is_not_as_it_was(data_dir: Path) -> None:
    extract(data_dir, archives=False)
    wav, where = Path(read_table(data_dir / "wav.scp")["bert-2"]), f"{data_dir}/wav.scp: bert-2: "
    good = wav.read_bytes()
    changed = f"features of {wav} are not those that were extracted; its audio has changed, or asrkit was built anew"
    write_audio(wav, 0.42, 77)
    assert read_all(data_dir) == f"{where}{changed}; {AGAIN}"
    wav.write_bytes(good[:5000] + bytes([good[5000] ^ 64]) + good[5001:])  # one sample
    assert read_all(data_dir) == f"{where}{changed}; {AGAIN}"
    wav.write_bytes(good[:2000])
    message = read_all(data_dir)
    assert message.startswith(f"{where}{wav}: ") and message.endswith(f"; repair the audio, or {AGAIN}")
    wav.unlink()
    assert read_all(data_dir) == f"{where}{wav}: no such file; bring it back, or correct its path"
    wav.write_bytes(good)
    assert not extract(data_dir, archives=False)
    write_audio(wav, 0.42, 77)
    before = identity(data_dir)
    assert extract(data_dir, archives=False)
    assert identity(data_dir) != before
    FeatureLoader(data_dir, CONFIG, pooled_stats(data_dir, CONFIG))["bert-2"]


def test_tables_that_are_not_as_they_were(data_dir: Path) -> None:
    extract(data_dir, archives=False)
    for name in ("utt2crc", "speech.2.ark", "utt2num_frames"):
        path = data_dir / name
        good = path.read_bytes()
        path.write_bytes(good[:-1])
        assert read_all(data_dir).startswith(f"{path}: missing, or not as stage 1 (asrkit extract) left it")
        path.write_bytes(good)
    (data_dir / ".feats.stamp").unlink()  # whoever does so wants his own tables
    rows = read_table(data_dir / "utt2crc")
    write_table(data_dir / "utt2crc", {**rows, "anna-1": "-1"} | {"x": "1"})
    assert read_all(data_dir) == f"{data_dir}/utt2crc:2: anna-1 -1; expected a whole number; {AGAIN}\n" + (
        f"{data_dir}/utt2crc: no line for anna-1, which speech.scp has"
    )
    write_table(data_dir / "utt2crc", rows | {"anna-1": "4294967295"})
    assert "anna-1: features of " in read_all(data_dir)
    (data_dir / "utt2crc").unlink()
    assert "utt2crc" in read_all(data_dir)


def test_what_cannot_be_computed_again_is_refused(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for backend in ("numpy", "librosa"):
        extractor_or_skip(replace(CONFIG, backend=backend))
        with pytest.raises(ConfigError) as error:
            extract(data_dir, replace(CONFIG, backend=backend), archives=False)
        assert str(error.value) == (
            f"features.backend: the last digits of {backend} vary with the number of threads, so its features have to "
            "be stored; leave --no-archives out, or choose native"
        )
    wavs = read_table(data_dir / "wav.scp")
    write_table(data_dir / "wav.scp", {**wavs, "cora-3": f"cat {wavs['cora-3']} |"})
    assert main(["extract", str(data_dir), "--nj", "1", "--no-archives", "--allow-pipes"]) == 1
    assert capsys.readouterr().err == (
        f"asrkit extract: error: {data_dir}/wav.scp: cora-3 is a pipe; write its audio to a file, or leave "
        "--no-archives out\n"
    )
    assert contents(data_dir).keys() == {"wav.scp", "utt2spk"}


def test_unusable_audio_is_named_and_what_is_done_is_kept(data_dir: Path) -> None:
    wav = Path(read_table(data_dir / "wav.scp")["cora-3"])
    good = wav.read_bytes()
    wav.write_bytes(b"no audio")
    with pytest.raises(DataError) as error:
        extract(data_dir, archives=False)
    assert f"{data_dir}: 1 of 12 utterances failed; no speech.scp was written" in str(error.value)
    wav.write_bytes(good)
    assert extract(data_dir, archives=False)
    expected = contents(data_dir)
    shutil.rmtree(data_dir / ".feats.jobs", ignore_errors=True)
    assert extract(data_dir, archives=False, force=True)
    assert contents(data_dir) == expected
