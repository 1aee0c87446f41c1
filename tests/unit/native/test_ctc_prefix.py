"""The kernel of CTC's prefix scores: against its NumPy reference, in both builds, and what it refuses."""

import os
import subprocess
import sys

import numpy as np
import pytest

from asrkit._native import kernel
from asrkit.decoding import ctc_prefix
from asrkit.decoding.ctc_prefix import NEVER, CtcFrames

native = kernel("_ctc_prefix")
pytestmark = pytest.mark.skipif(native is None, reason="_ctc_prefix is not built, or ASRKIT_NO_NATIVE is 1")

SHAPES = [(1, 1, 2, 1), (2, 3, 3, 2), (3, 9, 8, 4), (2, 30, 9, 5), (1, 17, 41, 10), (2, 64, 50, 33)]  # N, T, V, K


def results(shape, sharpness=3.0, again=0.3):
    """All that a search over random log-probabilities asks for; `again`: how often a phone follows itself."""
    num_utts, num_frames, num_classes, num_hyps = shape
    rng = np.random.default_rng(sum(shape))
    log_probs = sharpness * rng.standard_normal((num_utts, num_frames, num_classes))
    log_probs -= np.log(np.exp(log_probs).sum(axis=2, keepdims=True))
    frames = CtcFrames.of_batch(log_probs, rng.integers(1, num_frames + 1, num_utts))
    prefixes, found = frames.empty_prefix(), []
    for _ in range(min(5, num_frames + 1)):  # at last, prefixes of more phones than frames
        found += [prefixes.next_scores(), prefixes.end_scores(), prefixes.in_blank, prefixes.in_any]
        parents = rng.integers(0, prefixes.last.shape[1], (num_utts, num_hyps))
        tokens = rng.integers(0, num_classes, parents.shape)
        same = np.take_along_axis(prefixes.last, parents, axis=1)
        prefixes = prefixes.extend(parents, np.where(rng.random(parents.shape) < again, same, tokens))
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sharpness", [0.1, 3.0, 30.0])
def test_results_are_those_of_numpy(shape, sharpness, monkeypatch):
    found = results(shape, sharpness)
    monkeypatch.setattr(ctc_prefix, "kernel", lambda name: None)
    expected = results(shape, sharpness)
    for ours, numpys in zip(found, expected, strict=True):
        assert ours.shape == numpys.shape
        np.testing.assert_array_equal(ours == NEVER, numpys == NEVER)
        np.testing.assert_allclose(ours, numpys, rtol=1e-11, atol=1e-9)


def test_both_builds_agree():
    run = (
        "import sys; from tests.unit.native.test_ctc_prefix import *;"
        "sys.stdout.buffer.write(np.concatenate([each.ravel() for each in results(SHAPES[4])]).tobytes());"
        "print(native.BUILD, file=sys.stderr)"
    )
    environment = os.environ | {"ASRKIT_NO_AVX2": "1"}
    other = subprocess.run([sys.executable, "-c", run], env=environment, check=True, capture_output=True)
    assert other.stderr.split() == [b"baseline"]
    ours = np.concatenate([each.ravel() for each in results(SHAPES[4])])
    np.testing.assert_allclose(np.frombuffer(other.stdout), ours, rtol=1e-12, atol=1e-10)


def arguments():
    """Those of extend and of next_scores, for 2 utterances of 4 frames and 3 classes: 3 prefixes, then 5."""
    old = np.zeros((2, 3, 5))
    last, parents, tokens = np.ones((2, 3), np.int64), np.ones((2, 5), np.int64), np.ones((2, 5), np.int64)
    log_probs, probs, scores = np.zeros((2, 4, 3)), np.zeros((2, 4, 8)), np.zeros((2, 3, 3))
    extend = [log_probs, old, old, last, parents, tokens, np.zeros((2, 5, 5)), np.zeros((2, 5, 5))]
    return {"extend": extend, "next_scores": [log_probs, probs, old, old, last, scores]}


@pytest.mark.parametrize(
    ("function", "at"), [("extend", at) for at in range(8)] + [("next_scores", at) for at in range(6)]
)
@pytest.mark.parametrize("fault", ["shape", "dtype", "layout", "none", "number"])
def test_refuses_what_its_loops_could_not_index(function, at, fault):
    given = arguments()[function]
    array = given[at]
    if fault == "number":
        if array.dtype == np.float64 or (function, at) == ("extend", 3):
            pytest.skip("any number will do: it is no index")
        array[1, 2] = 3 if at % 2 else -1
    else:
        given[at] = {
            "shape": np.zeros([size + 1 for size in array.shape], array.dtype),
            "dtype": array.astype(np.float32),
            "layout": np.asfortranarray(array),
            "none": None,
        }[fault]
    with pytest.raises((TypeError, ValueError)):
        getattr(native, function)(*given)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308, -1e308])
def test_survives_any_number(value):
    for function, given in arguments().items():
        for array in given:
            if array.dtype == np.float64:
                array[:1] = value
        getattr(native, function)(*given)
        np.testing.assert_array_equal(np.isfinite(given[-1][1]), True)
