import math

import numpy as np
import pytest

from asrkit.decoding.greedy import greedy_search


def one_hot(path, num_classes=4, share=0.7):
    probs = np.full((len(path), num_classes), (1 - share) / (num_classes - 1), dtype=np.float32)
    probs[np.arange(len(path)), path] = share
    return np.log(probs)


@pytest.mark.parametrize(
    ("path", "tokens"),
    [
        ([0, 1, 1, 0, 2, 2, 2], [1, 2]),
        ([1, 1, 0, 1, 2, 1], [1, 1, 2, 1]),
        ([3], [3]),
        ([0, 0, 0], []),
        ([], []),
    ],
)
def test_repeats_join_and_blanks_separate(path, tokens):
    found, log_prob = greedy_search(one_hot(path))
    assert found == tokens
    assert log_prob == pytest.approx(len(path) * math.log(0.7), rel=1e-6)


@pytest.mark.parametrize("penalty", [-0.7, 0.3, 1.5, 4.0])
def test_a_penalty_is_taken_off_the_blank_at_each_step(penalty):
    log_probs = np.log(np.random.default_rng(1).dirichlet(np.ones(4), 200).astype(np.float32))
    found, log_prob = greedy_search(log_probs, penalty)
    path = (log_probs - np.float32(penalty) * (np.arange(4) == 0)).argmax(axis=1)
    assert found == [k for k, before in zip(path, [0, *path], strict=False) if k not in (0, before)]
    assert found != greedy_search(log_probs)[0]
    assert log_prob == pytest.approx(sum(log_probs[step, k] for step, k in enumerate(path)), rel=1e-5)
