"""Spans: the change point against every split, and pauses, edges and frame-wise heads against cases made by hand."""

import itertools

import numpy as np
import pytest

from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.spans import Peaks, Reach, align_frames, change_point, peak_frames, split_between


def spread(segment: np.ndarray) -> float:
    """Sum of squared distances from the mean."""
    return float(np.square(segment - segment.mean(axis=0)).sum())


@pytest.mark.parametrize("seed", range(30))
def test_the_change_point_is_the_best_of_all_splits(seed):
    rng = np.random.default_rng(seed)
    feats = rng.normal(size=(rng.integers(2, 30), 3)) + 100.0
    first = int(rng.integers(0, len(feats) - 1))
    last = int(rng.integers(first + 1, len(feats)))
    costs = {b: spread(feats[first:b]) + spread(feats[b : last + 1]) for b in range(first + 1, last + 1)}
    assert change_point(feats.astype(np.float64), first, last) == min(costs, key=costs.get)


def test_a_frame_wise_head_has_a_say_in_the_change_point():
    feats = np.repeat([[0.0], [1.0]], 10, axis=0)
    assert change_point(feats, 0, 19) == 10
    for bound in (3, 17):
        ratios = np.repeat([50.0, -50.0], [bound, 20 - bound])
        assert change_point(feats, 0, 19, ratios) == bound
        assert change_point(feats, 0, 19, ratios / 1000) == 10
    log_probs = np.log(np.full((20, 3), 1e-30))
    log_probs[:3, 2] = log_probs[3:, 0] = 0.0  # class 2, that of token 3, and then class 0
    peaks = Peaks(np.array([1, 18]), np.array([3, 1]), np.zeros(2, bool))
    _, ends = split_between(feats, peaks, Reach(30, 6), log_probs)
    assert ends.tolist() == [3, 20]


def noisy(*lengths: int) -> np.ndarray:
    """(T, 2) frames of sounds of these lengths, each with a mean of its own."""
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])
    rows = [means[i % 4] + rng.normal(0, 0.3, (length, 2)) for i, length in enumerate(lengths)]
    return np.concatenate(rows).astype(np.float32)


def spans(feats, peaks, silent=(), reach=30, edge=6):
    order = np.arange(len(peaks))
    peaks = Peaks(np.array(peaks), order + 1, np.isin(order, list(silent)))
    return [found.tolist() for found in split_between(feats, peaks, Reach(reach, edge))]


def test_boundaries_are_where_the_sound_changes():
    # Wherever within the sounds the peaks are.
    for peaks in itertools.product((0, 4, 9), (10, 12), (13, 30, 42)):
        assert spans(noisy(10, 3, 30), peaks, silent=[0, 2]) == [[0, 10, 13], [10, 13, 43]]


def test_sound_before_the_first_phone_and_after_the_last_is_theirs_only_if_they_are_silence():
    feats = noisy(20, 10, 12, 25)
    assert spans(feats, [25, 36]) == [[20, 30], [30, 42]]
    assert spans(feats, [25, 36], silent=[0, 1]) == [[0, 30], [30, 67]]


def test_a_peak_near_the_edge_of_the_audio_reaches_it():
    assert spans(noisy(10, 10), [4, 15]) == [[0, 10], [10, 20]]


def test_how_near_to_the_edge_a_peak_is_near():
    """At 60 ms there is room for something else, nearer there is not; beyond 0.3 s there is a pause."""
    assert (Reach.in_frames(0.01), Reach.in_frames(0.02)) == (Reach(far=30, edge=6), Reach(far=15, edge=3))
    feats = noisy(3, 40, 3)  # a sound of 3 frames at either edge, which may be another one
    assert spans(feats, [6, 39], edge=6)[0][0] == spans(feats, [6, 39], edge=7)[0][0] + 3 == 3
    assert spans(feats, [6, 39], edge=6)[1][1] == spans(feats, [6, 39], edge=7)[1][1] - 3 == 43
    assert spans(feats, [5, 40], edge=6)[0][0] == 0
    assert spans(feats, [5, 40], edge=6)[1][1] == 46


def test_a_long_pause_without_a_token_belongs_to_no_phone():
    feats = noisy(10, 80, 10)
    assert spans(feats, [5, 95]) == [[0, 90], [10, 100]]
    assert spans(noisy(10, 80, 10), [5, 50, 95], silent=[1]) == [[0, 10, 90], [10, 90, 100]]


def test_no_phones_have_no_spans():
    assert spans(noisy(10), []) == [[], []]


def make_log_probs(path: str, classes: str, sure: float = 0.9) -> np.ndarray:
    rest = (1 - sure) / (len(classes) - 1)
    return np.log([[sure if symbol == wanted else rest for symbol in classes] for wanted in path])


def test_peaks_are_in_the_middle_of_what_the_path_emits():
    log_probs = make_log_probs("--aaa---b-", "-ab")
    aligned = forced_align(log_probs, [1, 2])
    assert peak_frames(log_probs, aligned, 10, 1, 0.0).tolist() == [3, 8]
    assert peak_frames(log_probs, aligned, 29, 3, 1.0).tolist() == [10, 25]


def test_the_steps_beside_those_that_emit_pull_the_peak():
    """A phone that is emitted once, in step 3, more probable in the step before it than in the one after it."""
    probs = np.full((7, 2), 0.5)
    probs[:, 1] = [0.0001, 0.4, 0.3, 0.9, 0.1, 0.4, 0.0001]
    probs[:, 0] = 1 - probs[:, 1]
    log_probs = np.log(probs)
    aligned = forced_align(log_probs, [1])
    assert (aligned.starts.tolist(), aligned.ends.tolist()) == ([3], [4])
    center = (2 * 0.3 + 3 * 0.9 + 4 * 0.1) / 1.3  # steps 1 and 5 do not count
    assert peak_frames(log_probs, aligned, 700, 100, 0.0).tolist() == [round(100 * center)]


def test_a_step_that_another_token_emits_does_not_pull_the_peak():
    probs = np.array([[0.90, 0.05, 0.05], [0.05, 0.80, 0.15], [0.05, 0.30, 0.65], [0.90, 0.05, 0.05]])
    aligned = forced_align(np.log(probs), [1, 2])
    centers = (0 * 0.05 + 1 * 0.8) / 0.85, (2 * 0.65 + 3 * 0.05) / 0.7
    assert peak_frames(np.log(probs), aligned, 400, 100, 0.0).tolist() == [round(100 * center) for center in centers]


@pytest.mark.parametrize("seed", range(20))
def test_peaks_rise_and_leave_each_phone_a_frame(seed):
    rng = np.random.default_rng(seed)
    log_probs = np.log(rng.dirichlet(np.full(5, 0.1), size=12) + 1e-30)
    tokens = rng.integers(1, 5, 6)
    num_frames = int(rng.integers(34, 37))
    aligned = forced_align(log_probs, tokens)
    peaks = peak_frames(log_probs, aligned, num_frames, 3, 1.0)
    assert peaks[0] >= 0
    assert (np.diff(peaks) > 0).all()
    assert peaks[-1] < num_frames
    starts, ends = split_between(
        rng.normal(size=(num_frames, 2)), Peaks(peaks, tokens, tokens == 1), Reach.in_frames(0.01)
    )
    assert (starts < ends).all()
    assert (ends[:-1] <= starts[1:]).all()


def test_a_frame_wise_head_gives_spans_that_touch():
    log_probs = make_log_probs("aabbbaacc", "abc")
    found = align_frames(log_probs, [1, 2, 1, 3])
    assert found.starts.tolist() == [0, 2, 5, 7]
    assert found.ends.tolist() == [2, 5, 7, 9]
    assert np.exp(found.log_probs) == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(25))
def test_the_frame_wise_path_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    num_frames, tokens = 7, rng.integers(1, 4, rng.integers(1, 6)).tolist()
    optional = (3,) if seed % 2 else ()
    log_probs = np.log(rng.dirichlet(np.ones(3), size=num_frames))
    best = -np.inf
    for keep in itertools.product((True, False), repeat=len(tokens)):
        if any(not kept and token not in optional for kept, token in zip(keep, tokens, strict=True)):
            continue
        kept = [token for token, is_kept in zip(tokens, keep, strict=True) if is_kept]
        if not kept or any(a == b and a in optional for a, b in itertools.pairwise(kept)):
            continue  # two optional silences in a row are one
        for cuts in itertools.combinations(range(1, num_frames), len(kept) - 1):
            path = np.repeat(kept, np.diff([0, *cuts, num_frames]))
            best = max(best, log_probs[np.arange(num_frames), path - 1].sum())
    assert align_frames(log_probs, tokens, optional).score == pytest.approx(best)


def test_equal_neighbours_need_no_blank_in_a_frame_wise_head():
    found = align_frames(make_log_probs("aaaab", "ab"), [1, 1, 2])
    assert found.ends[-1] == 5
    assert found.starts[2] == 4
