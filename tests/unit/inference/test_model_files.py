"""Model files that are damaged or crafted: refused in one line, or a model that works. tests/faults has all of them.

The suite reads a share; tools/sanitize.sh reads it with kernels that notice what they read or write out of bounds.
"""

import random
import re
from collections.abc import Iterable
from types import SimpleNamespace
from unittest import mock

import numpy as np
import onnx
import pytest

from asrkit.errors import ModelError
from asrkit.inference.onnx_model import OnnxModel
from asrkit.training import checkpoint
from tests.faults import crafted_onnx, crafted_pt
from tests.faults.crafted import Case
from tests.faults.models import JUDGES, all_cases, judge

CASES = all_cases()


def test_right_files_are_taken():
    for case in CASES:
        if case.name.endswith("as it is"):
            assert judge(case) is None


def faults_of(cases: Iterable[Case]) -> dict[str, str]:
    return {f"{case.kind}: {case.name}": found for case in cases if (found := judge(case)) is not None}


def test_crafted_files_are_refused_in_one_line_or_work():
    share = random.Random(0).sample(CASES, 60)
    share += [case for case in CASES if "a cycle" in case.name or "contexts of" in case.name]
    assert faults_of(share) == {}


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("onnx", crafted_onnx.refused_graphs),
        ("final.pt", crafted_pt.settings),
        ("final.pt", lambda: crafted_pt.no_checkpoints(crafted_pt.right())),
        ("checkpoint.pt", crafted_pt.optimizers),
    ],
)
def test_what_no_version_wrote_is_refused(kind, refused):
    assert faults_of(Case(name, kind, make, must_fail=True) for name, make in refused()) == {}


def test_the_judge_sees_what_goes_wrong():
    assert judge(Case("right", "onnx", crafted_onnx.right)) is None
    assert judge(Case("right", "onnx", crafted_onnx.right, must_fail=True)) == "it was taken for a model"
    case = Case("other", "other", crafted_onnx.right)
    for error, wrong in (
        (ValueError("bad"), "ValueError: bad"),
        (ModelError("a.onnx: bad"), "an error that does not name the file: a.onnx: bad"),
        (ModelError("bad\nworse"), "an error that is not one line: 'bad\\nworse'"),
    ):
        with mock.patch.dict(JUDGES, other=mock.Mock(side_effect=error)):
            assert judge(case) == wrong
    with mock.patch.dict(JUDGES, other=lambda path: path.with_name("more").touch()):
        assert judge(case).startswith("it left ")


def test_files_are_the_same_byte_for_byte_again(tmp_path):
    assert crafted_onnx.right() == crafted_onnx.right.__wrapped__()
    assert crafted_pt.right() == crafted_pt.right.__wrapped__()
    content = crafted_pt._load(crafted_pt.right())
    for name in ("a.pt", "b.pt"):
        checkpoint.save(tmp_path / name, content)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_other_programs_can_read_a_sealed_export():
    proto = onnx.load_from_string(crafted_onnx.right())
    onnx.checker.check_model(proto, full_check=True)
    assert [entry.key for entry in proto.metadata_props] == ["asrkit", "lm", "sha256"]
    assert proto.metadata_props[-1].value.encode() == crafted_onnx.right()[-64:]


def test_the_error_of_a_network_that_cannot_be_run_names_the_file(tmp_path):
    """A graph that onnxruntime takes, and whose sizes do not go together."""
    path = tmp_path / "model.onnx"
    path.write_bytes(crafted_onnx.right())
    model = OnnxModel(path)
    with pytest.raises(ModelError, match=f"^{path}: the network cannot be run .*; export it again, or free memory$"):
        model.step(np.zeros((4, 13), np.float32), {"state.0.hidden": np.zeros((9, 9, 9), np.float32)})


def test_shapes_are_looked_at_before_their_lengths_are_multiplied():
    """A million lengths would take hours."""
    crafted = dict(crafted_onnx.refused_graphs())["tensor of nine dimensions"]
    with pytest.raises(
        ModelError, match=r"^model: tensor .*: type \d+, shape .* lengths of 0 or more; export it again$"
    ):
        OnnxModel(crafted())


def test_a_fault_is_said_in_a_line_of_some_length():
    with pytest.raises(ModelError, match=r"^model: the operator 'xxx.{270,300}; export it again$"):
        OnnxModel(crafted_onnx._with_operator("x" * 10**6, ""))


def test_what_the_network_gives_is_looked_at(monkeypatch):
    model, feats = OnnxModel(crafted_onnx.right()), np.zeros((9, 13), np.float32)
    right = model.log_probs(feats)
    assert right.shape == (5, 5)
    for wrong, fault in (
        (right[:-1], "the network gives (4, 5) log-probabilities; expected (5, 5)"),
        (right[:, :-1], "the network gives (5, 4) log-probabilities; expected (5, 5)"),
        (np.where(right == right.max(), np.nan, right), "the network gives log-probabilities that are not numbers"),
    ):
        monkeypatch.setattr(model, "_session", SimpleNamespace(run=mock.Mock(return_value=[wrong])))
        with pytest.raises(ModelError, match=f"^model: {re.escape(fault)}; export it again$"):
            model.log_probs(feats)
