"""The CTC forward algorithm: the probability of a labelling, summed over all its alignments (Graves et al. 2006).

Legend: T frames, V classes, n labellings, S states of the longest labelling: its tokens, with blanks before, between
and after them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asrkit.decoding.scorer import TokenScorer


def ctc_log_probs(log_probs: np.ndarray, labelings: Sequence[Sequence[int]]) -> np.ndarray:
    """(n,) float64 natural-log probabilities of `labelings`; -inf for those without an alignment.

    Labellings hold ids from 1 to V - 1. The results are upper bounds of those of a beam search, which loses the paths
    that leave the beam.

    Args:
        log_probs: (T, V) natural-log class probabilities; class 0 is the blank.
        labelings: the labellings.
    """
    if not labelings:
        return np.zeros(0)
    lens = np.array([len(labeling) for labeling in labelings])
    classes = np.zeros((len(labelings), 2 * lens.max() + 1), dtype=np.int64)  # (n, S)
    for row, labeling in zip(classes, labelings, strict=True):
        row[1 : 2 * len(labeling) : 2] = labeling
    # A token is reached from the token before it, unless they are equal: then there is a blank between them.
    from_token = np.full(classes.shape, -np.inf)
    from_token[:, 3::2][classes[:, 3::2] != classes[:, 1:-2:2]] = 0.0

    # Two columns stand before the first state. A path starts in the first blank, one frame before the first frame.
    padded = np.full((len(classes), classes.shape[1] + 2), -np.inf)
    padded[:, 2] = 0.0
    for emitted in np.asarray(log_probs, np.float64)[:, classes]:
        arrived = np.logaddexp(padded[:, 2:], padded[:, 1:-1])
        np.logaddexp(arrived, padded[:, :-2] + from_token, out=arrived)
        np.add(arrived, emitted, out=padded[:, 2:])
    rows = np.arange(len(classes))
    return np.logaddexp(padded[rows, 2 * lens + 2], padded[rows, 2 * lens + 1])


def total_scores(log_probs: np.ndarray, labelings: Sequence[Sequence[int]], scorer: TokenScorer) -> np.ndarray:
    """The exact scores (n,) that the beam search maximises: CTC summed over all alignments, plus the terms of `scorer`.

    `log_probs` is (T, V).
    """
    ctc = ctc_log_probs(log_probs, labelings).tolist()
    return np.array([scorer.total(*pair) for pair in zip(ctc, labelings, strict=True)])
