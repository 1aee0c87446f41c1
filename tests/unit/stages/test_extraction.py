from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.audio import AudioAccess
from asrkit.errors import AsrkitError
from asrkit.features.config import FeatureConfig
from asrkit.io.ark import ArkReader
from asrkit.io.scp import write_table
from asrkit.stages.extraction import Extraction, extract


@pytest.fixture
def data_dirs(tmp_path: Path) -> list[Path]:
    """Two data directories with one utterance each, whose paths start at tmp_path."""
    directories = [tmp_path / "train", tmp_path / "dev"]
    for seed, directory in enumerate(directories):
        samples = np.random.default_rng(seed).normal(0, 3000, 8000).astype(np.int16)
        soundfile.write(tmp_path / f"{seed}.wav", samples, 16000)
        write_table(directory / "wav.scp", {"a-1": f"{seed}.wav"})
        write_table(directory / "utt2spk", {"a-1": "a"})
    return directories


def test_several_directories(data_dirs: list[Path], tmp_path: Path) -> None:
    features, access = FeatureConfig(num_ceps=12), AudioAccess(tmp_path)
    train, dev = data_dirs
    assert extract(train, features, access=access) == Extraction((train,), ())
    assert extract(str(train), features, access=access) == Extraction((), (train,))
    assert ArkReader(train / "feats.scp")["a-1"].shape == (48, 12)
    reported: list[tuple[Path, bool]] = []
    result = extract([str(train), dev], features, access=access, report=lambda *done: reported.append(done))
    assert result == Extraction((dev,), (train,))
    assert reported == [(train, False), (dev, True)]
    assert extract(data_dirs, features, access=access, force=True) == Extraction((train, dev), ())


def test_a_directory_that_fails_leaves_the_others_to_be_done(data_dirs: list[Path], tmp_path: Path) -> None:
    train, dev = data_dirs
    (tmp_path / "0.wav").write_bytes(b"no audio")
    reported: list[Path] = []
    with pytest.raises(AsrkitError) as caught:
        extract(
            [train, tmp_path / "none", dev],
            FeatureConfig(),
            access=AudioAccess(tmp_path),
            report=lambda data_dir, _: reported.append(data_dir),
        )
    lines = str(caught.value).split("\n")
    assert lines[0].startswith(f"{train}: utterance a-1: ")
    assert lines[-2:] == [
        f"{tmp_path}/none/{name}: not found; made by stage 0 (asrkit prepare)" for name in ("wav.scp", "utt2spk")
    ]
    assert reported == [dev]
    assert [(directory / "feats.scp").exists() for directory in data_dirs] == [False, True]
