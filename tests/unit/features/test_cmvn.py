import numpy as np
import pytest

from asrkit.errors import DataError
from asrkit.features.cmvn import RunningCmvn, accumulate, apply_cmvn


@pytest.fixture
def feats() -> np.ndarray:
    return np.random.default_rng(0).normal([5, -300, 0.1], [1, 40, 0.01], (500, 3)).astype(np.float32)


def test_statistics_have_kaldis_layout() -> None:
    stats = accumulate(np.array([[1.0, 2.0], [3.0, -4.0]], np.float32))
    assert stats.dtype == np.float64
    np.testing.assert_array_equal(stats, [[4, -2, 2], [10, 20, 0]])


def test_a_speakers_statistics_are_the_sum(feats: np.ndarray) -> None:
    parts = accumulate(feats[:123]) + accumulate(feats[123:])
    np.testing.assert_allclose(parts, accumulate(feats), rtol=1e-12)


def test_means_and_variances(feats: np.ndarray) -> None:
    expected = (feats - feats.mean(axis=0, dtype=np.float64)) / feats.std(axis=0, dtype=np.float64)
    normalised = apply_cmvn(feats, accumulate(feats))
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised, expected, atol=1e-4)


def test_means_alone(feats: np.ndarray) -> None:
    centred = apply_cmvn(feats, accumulate(feats), norm_vars=False)
    np.testing.assert_allclose(centred, feats - feats.mean(axis=0, dtype=np.float64), atol=1e-4)


def test_values_that_never_change_become_zero() -> None:
    feats = np.full((100, 2), 0.1, np.float32)
    np.testing.assert_allclose(apply_cmvn(feats, accumulate(feats)), 0, atol=1e-6)


def test_input_is_not_changed(feats: np.ndarray) -> None:
    before = feats.copy()
    apply_cmvn(feats, accumulate(feats))
    np.testing.assert_array_equal(feats, before)


def test_statistics_that_cannot_be_used(feats: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"shape \(2, 3\); expected \(2, 4\)"):
        apply_cmvn(feats, accumulate(feats[:, :2]))
    with pytest.raises(DataError, match="of 0 frames"):
        apply_cmvn(feats, np.zeros((2, 4)))
    broken = accumulate(feats)
    broken[1, 0] = np.inf
    with pytest.raises(DataError, match="finite"):
        apply_cmvn(feats, broken)


@pytest.mark.parametrize("norm_vars", [True, False])
def test_running_statistics_are_those_of_the_last_frames_and_the_training_set(
    feats: np.ndarray, norm_vars: bool
) -> None:
    feats = np.concatenate([feats, 2 * feats[::-1]])
    rng = np.random.default_rng(1)
    training = rng.normal(size=(5000, 3)).astype(np.float32) * [2, 30, 0.5] + [0, -200, 1]
    prior = accumulate(training) / len(training)
    found = RunningCmvn(accumulate(training), norm_vars)(feats)
    assert found.dtype == np.float32
    for t in (0, 1, 399, 400, 401, 598, 599, 600, 700, 999):
        window = feats[max(0, t - 599) : t + 1].astype(np.float64)
        num_prior = min(600 - len(window), 200)
        total = accumulate(window) + num_prior * prior
        expected = apply_cmvn(feats[t : t + 1], total, norm_vars)[0]
        np.testing.assert_allclose(found[t], expected, atol=2e-4)


def test_running_statistics_do_not_depend_on_the_pieces(feats: np.ndarray) -> None:
    feats = np.concatenate([feats] * 4)
    stats = accumulate(feats[:50])
    whole = RunningCmvn(stats)(feats)
    rng = np.random.default_rng(2)
    for _ in range(5):
        running = RunningCmvn(stats)
        pieces = np.split(feats, np.sort(rng.integers(0, len(feats) + 1, 40)))
        np.testing.assert_array_equal(np.concatenate([running(piece) for piece in pieces]), whole)
        assert len(running._sums) <= 601
    with pytest.raises(DataError, match="shape"):
        RunningCmvn(stats)(feats[:, :2])
