import numpy as np
import pytest

from asrkit.errors import ConfigError, DataError
from asrkit.features.cmvn import (
    NORMALIZATIONS,
    CmvnMode,
    RunningCmvn,
    SpeechSpeaker,
    SpeechUtterance,
    accumulate,
    apply_cmvn,
    check_stats,
)
from asrkit.features.speech_frames import LevelScale, SpeechLevels


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
        with pytest.raises(
            DataError, match=rf"of {found}; expected one frame or more and finite sums, up to 1e\+30 per"
        ):
            check_stats(wrong, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 5])
@pytest.mark.parametrize("row", [3, 50])  # of a pause, and of speech
@pytest.mark.filterwarnings("error")
def test_features_that_are_not_finite_are_refused_in_pauses_too(row: int, column: int, value: float) -> None:
    static = np.random.default_rng(0).standard_normal((100, 13)).astype(np.float32)
    static[:20, 0] -= 60
    static[row, column] = value
    with pytest.raises(DataError, match="and finite sums"):
        check_stats(NORMALIZATIONS["speech_utterance"]().statistics(static), 13)


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


def test_running_statistics_of_speech_do_not_depend_on_the_pieces_or_on_a_pause(feats: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    speech = (feats * rng.uniform(0.2, 2, (len(feats), 1)) * 10).astype(np.float32)
    stats, level = accumulate(speech), LevelScale()
    pause = rng.normal(0, 1, (3000, 3)).astype(np.float32) + np.float32([5, 0, 0])  # some 40 dB below
    digital = np.full((3000, 3), -76.4, np.float32)
    # In the longer ones the levels of speech are forgotten, and its first fifth of a second does not count.
    for quiet, atol in ((pause[:2000], 0.1), (digital[:2000], 0.1), (pause, 0.3), (digital, 0.3)):
        frames = np.concatenate([speech, quiet, speech])
        whole = RunningCmvn(stats, speech=level)(frames)
        running = RunningCmvn(stats, speech=level)
        pieces = np.split(frames, np.sort(rng.integers(0, len(frames) + 1, 40)))
        np.testing.assert_array_equal(np.concatenate([running(piece) for piece in pieces]), whole)
        straight = RunningCmvn(stats, speech=level)(np.concatenate([speech, speech]))
        np.testing.assert_allclose(whole[-500:], straight[-500:], atol=atol)
        assert np.abs(RunningCmvn(stats)(frames)[-500:-480] - RunningCmvn(stats)(straight)[-500:-480]).max() > 0.5


@pytest.mark.parametrize("norm_vars", [True, False])
@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_each_mode_normalizes_by_the_statistics_it_takes(name: CmvnMode, norm_vars: bool, feats: np.ndarray) -> None:
    feats[:, 0] *= 8
    feats[:20, 0] = -76.4  # digital silence
    given, own = accumulate(feats[20:70]), accumulate(feats)
    levels = SpeechLevels()
    levels.add(LevelScale().steps(feats))
    speech = accumulate(feats[LevelScale().steps(feats) >= levels.lowest()])
    assert 200 < speech[0, -1] <= 480
    expected = {
        "speaker": apply_cmvn(feats, given, norm_vars),
        "utterance": apply_cmvn(feats, own, norm_vars),
        "global": apply_cmvn(feats, given, norm_vars),
        "running": RunningCmvn(given, norm_vars)(feats),
        "speech_speaker": apply_cmvn(floored(feats, given), given, norm_vars),
        "speech_utterance": apply_cmvn(floored(feats, speech), speech, norm_vars),
        "speech_global": apply_cmvn(floored(feats, given), given, norm_vars),
        "speech_running": RunningCmvn(given, norm_vars, LevelScale())(feats),
        "none": feats,
    }[name]
    mode = NORMALIZATIONS[name](norm_vars)
    np.testing.assert_array_equal(mode.normalizer(given)(feats), expected)
    np.testing.assert_array_equal(mode.statistics(feats), speech if mode.counts_speech else own)
    assert mode.centers == (np.abs(expected[20:].mean(axis=0)).max() < 30)


@pytest.mark.parametrize("norm_vars", [True, False])
@pytest.mark.parametrize("num_frames", [1, 30, 99, 100, 300])
def test_the_training_set_counts_for_frames_that_are_missing(
    num_frames: int, norm_vars: bool, feats: np.ndarray
) -> None:
    """By means and deviations of all frames, of which those of the training set weigh as much as is missing to 100."""
    few, others = feats[:num_frames], feats[num_frames:] * np.float32(2) + np.float32(3)
    weights = np.concatenate([np.ones(num_frames), np.full(len(others), max(100 - num_frames, 0) / len(others))])
    everything = np.concatenate([few, others]).astype(np.float64)
    mean = np.average(everything, axis=0, weights=weights)
    deviation = np.sqrt(np.average((everything - mean) ** 2, axis=0, weights=weights)) if norm_vars else 1.0
    expected = (few - mean) / deviation
    mode, given = SpeechUtterance(norm_vars, LevelScale(db=1e-9)), accumulate(others)  # all frames are equally loud
    np.testing.assert_allclose(mode.normalizer(given)(few), expected, atol=2e-4)
    own = accumulate(few)
    for each in NORMALIZATIONS.values():
        filled = each(norm_vars).filled(own, given)
        if each in (SpeechUtterance, SpeechSpeaker) and num_frames < 100:
            np.testing.assert_allclose(each(norm_vars).with_given_stats.normalizer(filled)(few), expected, atol=2e-4)
        else:
            assert filled is own


def floored(feats: np.ndarray, stats: np.ndarray) -> np.ndarray:
    """With C0, a sum over 23 filters over the root of their number, 40 dB below its mean at least."""
    lowest = np.full(feats.shape[1], -np.inf, np.float32)
    lowest[0] = np.float32(stats[0, 0] / stats[0, -1]) - np.float32(40 * np.log(10) / 10 * 23**0.5)
    return np.maximum(feats, lowest)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_statistics_are_asked_for_where_a_mode_is_given_some(name: CmvnMode, feats: np.ndarray) -> None:
    mode, stats = NORMALIZATIONS[name](), accumulate(feats)
    owners = {"speaker": "speaker", "global": "training set", "running": "training set"}
    owners["speech_utterance"] = "training set"
    owner = owners.get(name, owners.get(name.removeprefix("speech_")))
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
    prefix, whose = ("speech_" if mode.counts_speech else ""), name.removeprefix("speech_")
    assert without_speaker.name == prefix + {"speaker": "utterance"}.get(whose, whose)
    given = {"speaker": prefix + "global", "utterance": prefix + "global", "running": "none"}
    assert with_given_stats.name == given.get(whose, name)
    assert {without_speaker.norm_vars, with_given_stats.norm_vars} == {norm_vars}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_model_takes_a_part_of_what_it_takes_of_the_whole(name: CmvnMode, feats: np.ndarray) -> None:
    mode, stats = NORMALIZATIONS[name](), accumulate(feats[:50])
    taken = mode.input_normalizer(stats)(feats)
    by_given = mode.with_given_stats.normalizer(stats)
    np.testing.assert_array_equal(by_given(taken[200:]), by_given(taken)[200:])
    if not mode.needs_whole_utterance:
        np.testing.assert_array_equal(by_given(taken), mode.normalizer(stats)(feats))
