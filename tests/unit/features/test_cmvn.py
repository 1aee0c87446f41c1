import numpy as np
import pytest

from asrkit.errors import ConfigError, DataError
from asrkit.features.cmvn import NORMALIZATIONS, CmvnMode, RunningCmvn, accumulate, apply_cmvn, check_stats


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


def test_statistics_of_features_that_cannot_be_are_refused() -> None:
    stats = np.array([[1e32, -1e32, 100.0], [1e32, 1e32, 0.0]])
    assert check_stats(stats, 2).tolist() == stats.tolist()
    for place, value, found in [
        ((0, 2), 99.0, r"99 frames, sums up to 1e\+32"),
        ((1, 0), 1.01e32, r"100 frames, sums up to 1.01e\+32"),
        ((0, 0), np.nan, r"100 frames, sums up to nan"),
        ((0, 2), 0.0, r"0 frames, sums up to 1e\+32"),
        ((1, 2), np.inf, r"100 frames, sums up to 1e\+32"),
    ]:
        wrong = stats.copy()
        wrong[place] = value
        with pytest.raises(DataError, match=rf"of {found}; expected one frame or more and finite sums, up to 1e\+30 a"):
            check_stats(wrong, 2)


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


@pytest.mark.parametrize("norm_vars", [True, False])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_each_mode_normalizes_by_the_statistics_it_takes(name: CmvnMode, norm_vars: bool, feats: np.ndarray) -> None:
    given, own = accumulate(feats[:50]), accumulate(feats)
    expected = {
        "speaker": apply_cmvn(feats, given, norm_vars),
        "utterance": apply_cmvn(feats, own, norm_vars),
        "global": apply_cmvn(feats, given, norm_vars),
        "running": RunningCmvn(given, norm_vars)(feats),
        "none": feats,
    }[name]
    mode = NORMALIZATIONS[name](norm_vars)
    np.testing.assert_array_equal(mode.normalizer(given)(feats), expected)
    assert mode.centers == (np.abs(expected.mean(axis=0)).max() < 3)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_statistics_are_asked_for_where_a_mode_is_given_some(name: CmvnMode, feats: np.ndarray) -> None:
    mode, stats = NORMALIZATIONS[name](), accumulate(feats)
    owner = {"speaker": "speaker", "global": "training set", "running": "training set"}.get(name)
    if owner is None:
        assert mode.needed_stats(stats) is None
        assert len(mode.normalizer(None)(feats)) == len(feats)
        return
    assert mode.needed_stats(stats) is stats
    for ask in (mode.needed_stats, mode.normalizer):
        with pytest.raises(ConfigError) as caught:
            ask(None)
        assert str(caught.value) == f"features.cmvn: '{name}' without statistics; expected those of the {owner}"


@pytest.mark.parametrize("norm_vars", [True, False])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_modes_in_place_of_others(name: CmvnMode, norm_vars: bool) -> None:
    mode = NORMALIZATIONS[name](norm_vars)
    without_speaker, with_given_stats = mode.without_speaker, mode.with_given_stats
    assert without_speaker.name == {"speaker": "utterance"}.get(name, name)
    assert with_given_stats.name == {"speaker": "global", "utterance": "global"}.get(name, name)
    assert {without_speaker.norm_vars, with_given_stats.norm_vars} == {norm_vars}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_fixed_mode_takes_every_frame_by_itself_and_others_their_history(name: CmvnMode, feats: np.ndarray) -> None:
    feats = np.concatenate([feats] * 4)
    mode, stats = NORMALIZATIONS[name](), accumulate(feats[:50])
    whole = mode.normalizer(stats)(feats)
    start = len(feats) - 100 - mode.history
    if mode.history:
        np.testing.assert_allclose(mode.normalizer(stats)(feats[start:])[-100:], whole[-100:], atol=1e-5)
        assert np.abs(mode.normalizer(stats)(feats[start + 200 :])[-100:] - whole[-100:]).max() > 1e-2
    elif not mode.needs_whole_utterance:
        np.testing.assert_array_equal(mode.normalizer(stats)(feats[start:]), whole[start:])
