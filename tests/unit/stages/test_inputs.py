"""What a step needs and does not find, while another run makes it and when none does."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.errors import AsrkitError, InUseError
from asrkit.experiment import load_experiment
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.features.pipeline import FeatureLoader
from asrkit.io.atomic import atomic_write
from asrkit.io.lock import lock_dir, lock_file
from asrkit.io.stamp import Stamp, expect_right
from asrkit.stages.inputs import DECODE, expect_files
from asrkit.stages.training import TrainingData, train


def with_lock(lock, path, read):
    """The error of `read` while another thread has a lock, or None."""

    def run():
        try:
            read()
        except AsrkitError as error:
            return error
        return None

    with lock(path, "other"), ThreadPoolExecutor(1) as executor:
        return executor.submit(run).result()


def cut_output(root: Path) -> Path:
    stamp = Stamp(root / "set/.step.stamp", {})
    with stamp.making(), atomic_write(root / "set/file") as stream:
        stream.write("text")
    (root / "set/file").write_text("")
    return stamp.path


def train_on(root: Path) -> None:
    data = TrainingData(root / "set", root / "set", root / "tokens.txt")
    train(data, root / "exp", ExperimentConfig())


READERS = {
    "files": lambda root: expect_files({root / "set/hyp": DECODE}),
    "archives": lambda root: FeatureLoader(root / "set", FeatureConfig(cmvn="speaker")),
    "experiment": lambda root: load_experiment(root / "set"),
    "audio": lambda root: extract_data_dir(root / "set", FeatureConfig(), num_jobs=1),
    "training": train_on,
    "an output that is not right": lambda root: expect_right(cut_output(root), "a step"),
}


@pytest.mark.parametrize("name", READERS)
def test_what_is_missing_may_be_being_made(tmp_path, name):
    def read():
        READERS[name](tmp_path)

    (tmp_path / "set").mkdir()
    assert isinstance(with_lock(lock_dir, tmp_path / "set", read), InUseError)
    assert isinstance(with_lock(lock_file, tmp_path / "elsewhere", read), AsrkitError)
    error = with_lock(lock_dir, tmp_path / "elsewhere", read)
    assert "not found" in str(error) or "not as a step left it" in str(error)
    shutil.rmtree(tmp_path / "set")  # as while a set is being replaced
    if name != "an output that is not right":
        error = with_lock(lock_dir, tmp_path, read)
        assert isinstance(error, InUseError)


def test_a_file_that_stands_alone_may_be_being_made(tmp_path):
    def read():
        expect_files({tmp_path / "lm.arpa": "a step"})

    assert isinstance(with_lock(lock_file, tmp_path / "lm.arpa", read), InUseError)
    assert not isinstance(with_lock(lock_file, tmp_path / "other.arpa", read), InUseError)


def test_what_comes_while_one_asks_is_taken(tmp_path, monkeypatch):
    (tmp_path / ".asrkit.lock").touch()
    monkeypatch.setattr("asrkit.io.lock.lock_dir", lambda path, verb: lock_dir_and_write(path, verb))

    def lock_dir_and_write(path, verb):
        (tmp_path / "hyp").touch()
        return lock_dir(path, verb)

    expect_files({tmp_path / "hyp": DECODE})
