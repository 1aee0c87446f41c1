"""Checkpoints are read whole, or refused in a line that names the file."""

import pytest
import torch

from asrkit.errors import ModelError
from asrkit.io.seal import append_seal
from asrkit.training import checkpoint

CONTENT = {"model": {"weight": torch.arange(6.0).reshape(2, 3)}, "epoch": 3, "history": [{"loss": 0.5}]}


def test_what_is_saved_is_loaded(tmp_path):
    checkpoint.save(tmp_path / "a.pt", CONTENT)
    found = checkpoint.load(tmp_path / "a.pt")
    assert found.pop("model")["weight"].equal(CONTENT["model"]["weight"])
    assert found == {"epoch": 3, "history": [{"loss": 0.5}]}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_files_that_end_early_are_refused(tmp_path, share):
    path = tmp_path / "a.pt"
    checkpoint.save(path, CONTENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"a\.pt: no digest at its end: cut short, .*; copy it again, or train again$"):
        checkpoint.load(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(ModelError, match=r"a\.pt: no such file; train again or restore it$"):
        checkpoint.load(path)
    with pytest.raises(ModelError, match=r"not a readable checkpoint"):
        checkpoint.load(tmp_path)
    with path.open("w+b") as stream:
        torch.save([1, 2], stream)
        append_seal(stream)
    with pytest.raises(ModelError, match=r"a\.pt: expected a dictionary of tensors, found list$"):
        checkpoint.load(path)
    with path.open("w+b") as stream:
        torch.save(pytest.approx(1), stream)
        append_seal(stream)
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint of plain tensors; train again or restore the file$"):
        checkpoint.load(path)
