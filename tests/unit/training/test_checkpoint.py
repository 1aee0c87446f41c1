"""Checkpoints are read whole, or refused in a line that names the file."""

import collections
import pickle

import pytest
import torch

from asrkit.errors import ModelError
from asrkit.io.seal import append_seal, seal, unsealed
from asrkit.training import checkpoint
from tests.faults.crafted_pt import rewritten

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
    with pytest.raises(ModelError, match=rf"^{tmp_path}: cannot be used \(Is a directory\)$"):
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


@pytest.mark.parametrize("name", [b"data.pkl", b"DATA.PKL"])
def test_the_pickle_is_looked_at_under_each_name_that_pytorch_finds_it_by(tmp_path, name):
    path = tmp_path / "a.pt"
    checkpoint.save(path, CONTENT)
    whole = unsealed(path.read_bytes())
    path.write_bytes(seal(whole.replace(b"data.pkl", name)))
    assert checkpoint.load(path)["epoch"] == 3
    made_on_the_spot = b"\x80\x02cbuiltins\nbytearray\nK\x09\x85R."
    path.write_bytes(seal(rewritten(whole, lambda _: made_on_the_spot).replace(b"data.pkl", name)))
    with pytest.raises(ModelError, match=r"a\.pt: not a checkpoint of plain tensors"):
        checkpoint.load(path)


def test_names_in_a_pickle_are_seen_however_they_are_written():
    named = collections.OrderedDict
    for pickled in (pickle.dumps(named, 4), b"(icollections\nOrderedDict\n.", pickle.dumps(range, 2)):
        with pytest.raises(pickle.UnpicklingError):
            checkpoint._expect_plain(pickled)
    checkpoint._expect_plain(pickle.dumps(named, 2))
