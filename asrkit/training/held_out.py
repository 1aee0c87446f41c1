"""Hold out a part of a small set, and choose by it without making the error rate too optimistic."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

SHARE = 0.2  # share of the speakers, or of the utterances if there is one speaker


def hold_out(utt2spk: Mapping[str, str], seed: int) -> set[str]:
    """Choose utterances to hold out: those of a fifth of the speakers, at least one. With one speaker, a fifth of all.

    The choice depends only on the seed and the names, not on their order. From one utterance none can be held out, so
    the result is empty.
    """
    has_speakers = len(set(utt2spk.values())) > 1
    unit_of = utt2spk if has_speakers else {utt_id: utt_id for utt_id in utt2spk}
    units = sorted(set(unit_of.values()), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    if len(units) < 2:
        return set()
    held_out = set(units[: max(1, round(SHARE * len(units)))])
    return {utt_id for utt_id, unit in unit_of.items() if unit in held_out}


def choose(errors: np.ndarray) -> int:
    """The candidate with the fewest errors; of equals the first. `errors` is (candidates, utterances)."""
    return int(errors.sum(axis=1).argmin())


def choose_without(errors: np.ndarray, units: Sequence[str]) -> np.ndarray:
    """For each utterance, the candidate that is best on the utterances of all other units: (n,).

    So no utterance is scored with a candidate that was chosen on it, which would be too optimistic. With one unit, the
    first candidate is taken.

    Args:
        errors: (candidates, n) errors.
        units: the speaker of each utterance, or the utterance itself.
    """
    names = np.asarray(units)
    chosen = np.zeros(len(names), np.int64)
    for unit in np.unique(names):
        chosen[names == unit] = choose(errors[:, names != unit])
    return chosen
