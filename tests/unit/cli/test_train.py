"""What `asrkit train` asks for."""

import sys
from pathlib import Path

import pytest

from asrkit.cli import train
from asrkit.cli.main import main
from asrkit.stages.training import Training, TrainingData


@pytest.mark.parametrize("options", [[], ["--log-gradients"]])
def test_gradients_are_logged_where_it_is_said(monkeypatch, capsys, options):
    asked = []

    def note(data, directory, config, **others):
        asked.append((data, directory))
        return Training(directory)

    monkeypatch.setattr(train, "train", note)
    monkeypatch.setattr(sys, "argv", ["asrkit"])
    assert main(["train", "--train", "a", "--dev", "b", "--tokens", "t", "--out", "e", *options]) == 0
    assert asked == [(TrainingData(Path("a"), Path("b"), Path("t"), None, bool(options)), Path("e"))]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "e: training is up to date"
    more = ["e: no gradients logged, as nothing was trained; give --force to train anew"]
    assert lines[1:] == (more if options else [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a"], "a"),
        (["a=2"], {"a": 2.0}),
        (["a", "b=0.5"], {"a": 1.0, "b": 0.5}),
        (["there=3", "there"], {"there=3": 1.0, "there": 1.0}),  # a directory of that name
    ],
)
def test_directories_have_weights(monkeypatch, tmp_path, given, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there=3").mkdir()
    found = []

    def note(data, *args, **others):
        found.append(data.train)
        return Training(tmp_path)

    monkeypatch.setattr(train, "train", note)
    options = [word for name in given for word in ("--train", name)]
    assert main(["train", *options, "--dev", "b", "--tokens", "t", "--out", "e"]) == 0
    wanted = Path(expected) if isinstance(expected, str) else {Path(name): each for name, each in expected.items()}
    assert found == [wanted]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (["a=0"], "--train a=0: expected DATA, or DATA=WEIGHT with a number above 0"),
        (["a=x"], "--train a=x: expected DATA, or DATA=WEIGHT with a number above 0"),
        (["a", "a=2"], "--train a: given twice; give a=2 to take it twice"),
    ],
)
def test_faults_of_weights(capsys, given, fault):
    options = [word for name in given for word in ("--train", name)]
    assert main(["train", *options, "--dev", "b", "--tokens", "t", "--out", "e"]) == 1
    assert capsys.readouterr().err == f"asrkit train: error: {fault}\n"
