"""The forward algorithm beside enumeration, PyTorch's CTC loss and the beam search."""

import itertools
import math

import numpy as np
import pytest
import torch

from asrkit.decoding.forward import ctc_log_probs, total_scores
from asrkit.decoding.scorer import TokenScorer
from asrkit.lm.ngram import train_ngram
from tests.searches import prefix_beam_search


def random_log_probs(rng, num_frames, num_classes):
    logits = rng.normal(0, 2, (num_frames, num_classes))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def enumerate_paths(log_probs):
    """The probability of every labelling, from all paths one by one."""
    sums = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        labeling = tuple(token for token, _ in itertools.groupby(path) if token)
        sums[labeling] = sums.get(labeling, 0.0) + math.exp(sum(log_probs[t, k] for t, k in enumerate(path)))
    return sums


@pytest.mark.parametrize("num_frames", range(5))
def test_all_labelings_equal_enumeration(num_frames):
    log_probs = random_log_probs(np.random.default_rng(num_frames), num_frames, 4)
    expected = enumerate_paths(log_probs)
    assert ctc_log_probs(log_probs, list(expected)) == pytest.approx([math.log(p) for p in expected.values()])
    too_long = [(1,) * (num_frames + 1), (1, 1) * num_frames + (2,)]
    assert ctc_log_probs(log_probs, too_long).tolist() == [-math.inf] * 2
    assert ctc_log_probs(log_probs, []).shape == (0,)


def test_long_utterances_equal_pytorch():
    rng = np.random.default_rng(1)
    log_probs = random_log_probs(rng, 200, 40)
    labelings = [rng.integers(1, 40, length).tolist() for length in (0, 1, 17, 60, 90)] + [[5] * 100]
    expected = [
        -torch.nn.functional.ctc_loss(
            torch.from_numpy(log_probs)[:, None],
            torch.tensor([labeling], dtype=torch.long),
            torch.tensor([200]),
            torch.tensor([len(labeling)]),
            reduction="sum",
        ).item()
        for labeling in labelings
    ]
    assert ctc_log_probs(log_probs, labelings) == pytest.approx(expected, rel=1e-9)
    assert ctc_log_probs(log_probs.astype(np.float32), labelings) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_total_scores_are_what_a_full_beam_finds(order):
    log_probs = random_log_probs(np.random.default_rng(order), 5, 4)
    lm = train_ngram([("a", "b"), ("b", "b", "c")], order, ("a", "b", "c")) if order else None
    found = prefix_beam_search(log_probs, beam=1000, num_best=1000, lm=lm, lm_weight=0.7, insertion_bonus=0.4)
    scores = total_scores(log_probs, [result.tokens for result in found], TokenScorer(lm and lm.automaton, 0.7, 0.4))
    assert len(found) == len(enumerate_paths(log_probs))
    assert scores == pytest.approx([result.score for result in found])
    assert found[0].score == pytest.approx(scores.max())
