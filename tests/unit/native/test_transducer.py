"""The transducer's kernel by itself: what it refuses, whatever it is given, and that both builds agree."""

import os
import subprocess
import sys

import numpy as np
import pytest

from asrkit._native import kernel

transducer = kernel("_transducer")
pytestmark = pytest.mark.skipif(transducer is None, reason="_transducer is not built, or ASRKIT_NO_NATIVE is 1")


def arguments(dtype=np.float32, num_classes=4):
    """Two utterances: 3 steps and 2 tokens, 2 steps and 1 token."""
    logits = np.linspace(-1, 1, 13 * num_classes).astype(dtype).reshape(13, num_classes)
    return {
        "logits": logits,
        "num_steps": np.array([3, 2]),
        "tokens": np.array([1, 2, 3]),
        "num_tokens": np.array([2, 1]),
        "losses": np.zeros(2),
        "grads": np.zeros_like(logits),
    }


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("logits", None, TypeError),
        ("logits", np.zeros((13, 4), np.float16), TypeError),
        ("logits", np.zeros((13, 4), ">f4"), TypeError),
        ("logits", np.zeros(52, np.float32), TypeError),
        ("logits", np.zeros((13, 8), np.float32)[:, ::2], ValueError),
        ("logits", np.zeros((12, 4), np.float32), ValueError),
        ("logits", np.zeros((14, 4), np.float32), ValueError),
        ("logits", np.zeros((13, 0), np.float32), ValueError),
        ("logits", np.zeros((13, 3), np.float32), ValueError),  # token 3 is none of three classes
        ("logits", np.zeros((13, 4)), ValueError),  # float64, but gradients are float32
        ("num_steps", np.array([3, 2], np.int32), TypeError),
        ("num_steps", np.array([3]), ValueError),
        ("num_steps", np.array([3, 0]), ValueError),
        ("num_steps", np.array([5, -1]), ValueError),
        ("num_steps", np.array([3, 2**62]), ValueError),
        ("num_steps", np.array([2**62, 2]), ValueError),
        ("tokens", np.array([1, 2, 0]), ValueError),
        ("tokens", np.array([1, 2, 4]), ValueError),
        ("tokens", np.array([1, -2, 3]), ValueError),
        ("tokens", np.array([1, 2]), ValueError),
        ("tokens", np.array([1, 2, 3, 3]), ValueError),
        ("num_tokens", np.array([2]), ValueError),
        ("num_tokens", np.array([2, -1]), ValueError),
        ("num_tokens", np.array([1, 2]), ValueError),
        ("num_tokens", np.array([2**63 - 1, 1]), ValueError),
        ("losses", np.zeros(1), ValueError),
        ("losses", np.zeros(2, np.float32), TypeError),
        ("losses", read_only(np.zeros(2)), ValueError),
        ("grads", np.zeros((13, 5), np.float32), ValueError),
        ("grads", np.zeros((12, 4), np.float32), ValueError),
        ("grads", read_only(np.zeros((13, 4), np.float32)), ValueError),
    ],
)
def test_refuses_what_its_loops_could_not_index(name, value, error):
    with pytest.raises((error, BufferError)):
        transducer.losses(*(arguments() | {name: value}).values())


def test_refuses_another_number_of_arguments():
    for given in (), list(arguments().values())[:5], [*arguments().values(), 0]:
        with pytest.raises(TypeError, match="6 arguments"):
            transducer.losses(*given)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3.4e38, -np.inf, -3.4e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_survives_any_number(value, dtype):
    """In an utterance's logits; the other's result is what it was."""
    expected = arguments(dtype)
    transducer.losses(*expected.values())
    for at in [(slice(0, 9), slice(None)), *np.ndindex(9, 4)]:
        given = arguments(dtype)
        given["logits"][at] = value
        transducer.losses(*given.values())
        assert given["losses"][1] == expected["losses"][1]
        np.testing.assert_array_equal(given["grads"][9:], expected["grads"][9:])
        assert np.isfinite(given["grads"][:9]).all() == np.isfinite(given["losses"][0])


def results():
    """Losses and gradients of batches with more and fewer tokens and classes than lanes."""
    rng = np.random.default_rng(5)
    found = []
    for trial in range(60):
        num_steps, num_tokens, num_classes = rng.integers(1, 40, 3), rng.integers(0, 20, 3), int(rng.integers(2, 50))
        size = (int((num_steps * (num_tokens + 1)).sum()), num_classes)
        logits = rng.normal(size=size).astype((np.float32, np.float64)[trial % 2])
        losses, grads = np.empty(3), np.empty_like(logits)
        transducer.losses(logits, num_steps, rng.integers(1, num_classes, num_tokens.sum()), num_tokens, losses, grads)
        found += [losses, grads.astype(np.float64).ravel()]
    return np.concatenate(found)


def test_both_builds_agree(tmp_path):
    code = (
        "import importlib.util; spec = importlib.util.spec_from_file_location('m', " + repr(__file__) + ")\n"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)\n"
        f"module.np.save({str(tmp_path / 'found.npy')!r}, module.results()); print(module.transducer.BUILD)"
    )
    environment = os.environ | {"ASRKIT_NO_AVX2": "1"}
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.split() == ["baseline"]
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), results(), rtol=1e-6, atol=1e-7)
