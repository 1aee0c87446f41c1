"""The kernel of additive attention: against its NumPy reference, in both builds, and what it refuses."""

import os
import subprocess
import sys

import numpy as np
import pytest

from asrkit._native import kernel
from asrkit.models import search_attention
from asrkit.models.search_attention import AdditiveWeights, additive_scores

attention = kernel("_attention")
pytestmark = pytest.mark.skipif(attention is None, reason="_attention is not built, or ASRKIT_NO_NATIVE is 1")


SIZES = {"num_utts": 2, "num_hyps": 3, "num_heads": 2, "num_steps": 9, "share": 12, "channels": 3, "width": 5}


def draw(**sizes):
    """Weights, keys, queries and last weights."""
    num_utts, num_hyps, num_heads, num_steps, share, channels, width = (SIZES | sizes).values()
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    size = num_heads * share
    weights = AdditiveWeights(normal(num_heads, share), normal(channels, num_heads, width), normal(channels, size))
    previous = np.abs(normal(num_utts, num_hyps, num_heads, num_steps))
    return weights, normal(num_utts, num_steps, size), normal(num_utts, num_hyps, size), previous


SHAPES = [
    {},
    {"share": 64, "num_heads": 1, "channels": 8, "width": 15, "num_steps": 30},
    {"share": 1, "num_heads": 4, "channels": 9, "width": 1},
    {"num_steps": 1, "width": 7},
    {"num_steps": 2, "width": 31, "share": 8},
    {"num_utts": 1, "num_hyps": 1, "share": 17, "channels": 1},
    {"num_hyps": 0},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("looks_back", [True, False])
def test_scores_are_those_of_numpy(shape, looks_back, monkeypatch):
    weights, keys, query, previous = draw(**shape)
    found = additive_scores(weights, keys, query, previous if looks_back else None)
    monkeypatch.setattr(search_attention, "kernel", lambda name: None)
    expected = additive_scores(weights, keys, query, previous if looks_back else None)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert found.dtype == np.float32


def test_large_sums_are_bounded():
    weights, keys, query, previous = draw()
    found = additive_scores(weights, keys * np.float32(1e30), query, previous)
    assert np.isfinite(found).all() and np.abs(found).max() <= np.abs(weights.weight).sum(axis=1).max() + 1e-4


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("fault", ["shape", "dtype", "layout", "none"])
def test_refuses_what_its_loops_could_not_index(at, fault):
    weights, keys, query, previous = draw()
    arguments = [*weights, keys, query, previous, np.zeros((2, 3, 2, 9), np.float32)]
    array = arguments[at]
    arguments[at] = {
        "shape": np.zeros([size + 1 for size in array.shape], np.float32),
        "dtype": array.astype(np.float64),
        "layout": np.asfortranarray(array),
        "none": None,
    }[fault]
    if fault == "none" and at == 5:
        attention.additive_scores(*arguments)
        return
    with pytest.raises((TypeError, ValueError)):
        attention.additive_scores(*arguments)


def test_both_builds_agree():
    run = (
        "from tests.unit.native.test_attention import *; import sys;"
        "w, *rest = draw(share=64, num_heads=1, channels=8, width=15); out = np.empty((2, 3, 1, 9), np.float32);"
        "attention.additive_scores(*w, *rest, out); sys.stdout.buffer.write(out.tobytes())"
    )
    found = [
        np.frombuffer(
            subprocess.run(
                [sys.executable, "-c", run], env=os.environ | chosen, check=True, capture_output=True
            ).stdout,
            np.float32,
        )
        for chosen in ({}, {"ASRKIT_NO_AVX2": "1"})
    ]
    np.testing.assert_allclose(*found, rtol=0, atol=2e-5)
