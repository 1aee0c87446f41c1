"""The part of a small set that is held out, and a choice by it that still gives an honest error rate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

SHARE = 0.2  # of the speakers, or of the utterances where there is one speaker


def hold_out(utt2spk: Mapping[str, str], seed: int) -> set[str]:
    """Utterances to hold out: those of a fifth of the speakers, of one at least; with one speaker a fifth of all.

    The draw depends on the seed and on names alone, not on their order. Of one utterance none can be held out: the set
    is empty.
    """
    has_speakers = len(set(utt2spk.values())) > 1
    unit_of = utt2spk if has_speakers else {utt_id: utt_id for utt_id in utt2spk}
    units = sorted(set(unit_of.values()), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    if len(units) < 2:
        return set()
    held_out = set(units[: max(1, round(SHARE * len(units)))])
    return {utt_id for utt_id, unit in unit_of.items() if unit in held_out}


def choose(errors: np.ndarray) -> int:
    """The candidate with the fewest errors, of equals the first. `errors`: (candidates, utterances)."""
    return int(errors.sum(axis=1).argmin())


def choose_without(errors: np.ndarray, units: Sequence[str]) -> np.ndarray:
    """For each utterance (n,) the candidate that is chosen by the utterances of the other units.

    So errors are not counted on the utterances that made the choice, which would be optimistic. `errors`: (candidates,
    n); `units`: the speaker of each utterance, or the utterance itself. With one unit the first candidate is taken.
    """
    names = np.asarray(units)
    chosen = np.zeros(len(names), np.int64)
    for unit in np.unique(names):
        chosen[names == unit] = choose(errors[:, names != unit])
    return chosen
