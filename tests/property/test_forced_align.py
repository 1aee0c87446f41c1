"""Forced alignment against a search through every path; the kernel against its reference; and anything at all."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asrkit._native import kernel
from asrkit.decoding import forced_align as module
from asrkit.decoding.forced_align import forced_align
from asrkit.errors import AsrkitError, DataError


def collapse(path):
    return [token for token, _ in itertools.groupby(path) if token != 0]


def best_of_all_paths(log_probs, labelings):
    best = -math.inf
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if collapse(path) in labelings:
            best = max(best, sum(log_probs[t, k] for t, k in enumerate(path)))
    return best


@settings(max_examples=250)
@given(
    seed=st.integers(0, 2**32),
    num_frames=st.integers(0, 6),
    num_classes=st.integers(2, 3),
    num_tokens=st.integers(0, 5),
    with_ties=st.booleans(),
    with_optional=st.booleans(),
)
def test_equals_the_best_of_all_paths(seed, num_frames, num_classes, num_tokens, with_ties, with_optional):
    rng = np.random.default_rng(seed)
    log_probs = -rng.integers(0, 3, size=(num_frames, num_classes)).astype(float)
    if not with_ties:
        log_probs -= rng.random(log_probs.shape)
    tokens = rng.integers(1, num_classes, size=num_tokens).tolist()
    optional = {int(token) for token in rng.integers(1, num_classes, size=2)} if with_optional else set()

    # Optional tokens are there or not, wherever they stand.
    choices = [[(token,), ()] if token in optional else [(token,)] for token in tokens]
    labelings = [list(itertools.chain(*choice)) for choice in itertools.product(*choices)]
    best = best_of_all_paths(log_probs, labelings)

    if best == -math.inf:
        with pytest.raises(DataError, match="need at least"):
            forced_align(log_probs, tokens, optional=optional)
        return

    found = forced_align(log_probs, tokens, optional=optional)

    assert found.score == pytest.approx(best, abs=1e-9)
    path = np.zeros(num_frames, dtype=int)
    last_end = 0
    for token, start, end, mean in zip(tokens, found.starts, found.ends, found.log_probs, strict=True):
        assert last_end <= start <= end <= num_frames
        if start == end:
            assert token in optional
            assert start == last_end
            assert math.isnan(mean)
        else:
            assert mean == pytest.approx(log_probs[start:end, token].mean(), abs=1e-9)
        path[start:end] = token
        last_end = end
    assert collapse(path) == [token for token, s, e in zip(tokens, found.starts, found.ends, strict=True) if s < e]
    assert log_probs[np.arange(num_frames), path].sum() == pytest.approx(best, abs=1e-9)


@dataclass(frozen=True)
class Problem:
    """What is drawn at random. With ties the log-probabilities are whole numbers, many of which are equal."""

    shape: tuple[int, int]
    num_tokens: int
    share_optional: float
    share_impossible: float
    with_ties: bool
    dtype: type


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    problem=st.builds(
        Problem,
        shape=st.tuples(st.integers(0, 80), st.integers(2, 12)),
        num_tokens=st.integers(0, 40),
        share_optional=st.sampled_from([0.0, 0.0, 0.2, 0.6, 1.0]),
        share_impossible=st.sampled_from([0.0, 0.1, 0.5]),
        with_ties=st.booleans(),
        dtype=st.sampled_from([np.float32, np.float64]),
    ),
)
def test_the_kernel_equals_its_reference(seed, problem):
    native = kernel("_align")
    if native is None:
        pytest.skip("_align is not built, or ASRKIT_NO_NATIVE is 1")
    rng = np.random.default_rng(seed)
    log_probs = -(rng.integers(0, 4, problem.shape) if problem.with_ties else 8 * rng.random(problem.shape))
    log_probs = log_probs.astype(problem.dtype)
    log_probs[rng.random(log_probs.shape) < problem.share_impossible] = -np.inf
    tokens = rng.integers(1, problem.shape[1], problem.num_tokens)
    optional = (rng.random(len(tokens)) < problem.share_optional).astype(np.uint8)
    results = []
    for viterbi in (native.viterbi, module._viterbi):
        spans, sums = np.empty((2, len(tokens)), np.int64), np.empty(len(tokens))
        score = viterbi(log_probs, tokens, optional, spans, sums)
        results.append((score, spans.tolist(), sums.tolist()))
    assert results[0] == results[1]


NUMBERS = st.one_of(
    st.floats(width=32), st.floats(-20, 0, width=32), st.sampled_from([math.nan, math.inf, -math.inf, 1e38, -1e38])
)


@settings(max_examples=300)
@given(
    log_probs=st.one_of(
        hnp.arrays(
            st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.uint64]),
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=12),
        ),
        hnp.arrays(np.float32, st.tuples(st.integers(0, 30), st.integers(1, 5)), elements=NUMBERS),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4)),
    ),
    tokens=st.one_of(
        st.lists(st.integers(1, 4), max_size=8),
        st.lists(st.integers(-2, 2**70), max_size=4),
        st.lists(st.floats(), max_size=3),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=2, max_side=4)),
    ),
    optional=st.sets(st.integers(-1, 4)),
    flip=st.booleans(),
)
def test_anything_is_aligned_or_refused(log_probs, tokens, optional, flip):
    if flip:
        log_probs = log_probs.T[::-1] if log_probs.ndim else log_probs  # not contiguous
    try:
        found = forced_align(log_probs, tokens, optional=optional, utt_id="utt1")
    except AsrkitError as error:
        assert str(error).startswith("utt1: ")
        assert "\n" not in str(error)
        return
    assert -math.inf < found.score < math.inf
    assert len(found.starts) == len(found.ends) == len(found.log_probs) == len(tokens)
    assert all(0 <= s <= e <= len(log_probs) for s, e in zip(found.starts, found.ends, strict=True))


def test_runs_of_optional_tokens_of_every_length_up_to_the_limit():
    rng = np.random.default_rng(2)
    for run in (1, 2, 7, 61, 62):
        tokens = np.concatenate([[1], rng.integers(2, 6, run), [1], rng.integers(2, 6, run)])
        log_probs = -5 * rng.random((40, 6))
        found = forced_align(log_probs, tokens, optional=range(2, 6))
        spans, sums = np.empty((2, len(tokens)), np.int64), np.empty(len(tokens))
        assert found.score == module._viterbi(log_probs, tokens, (tokens > 1).astype(np.uint8), spans, sums)
        starts, ends = spans
        used = ends >= 0
        assert np.array_equal(found.starts < found.ends, used)
        assert np.array_equal(found.starts[used], starts[used])
        assert np.array_equal(found.ends[used], ends[used])
    with pytest.raises(DataError, match="63 optional tokens in a row; expected 62 at most"):
        forced_align(np.zeros((9, 3)), [1, *[2] * 63, 1], optional={2})
