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
