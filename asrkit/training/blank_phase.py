"""The blank phase: the beginning of a training, when the output of a CTC network does not depend on the audio yet.

CTC networks first learn to emit blanks. Then they learn what most utterances have in common: silence at both ends, and
frequent phones. In this phase the loss falls, but the phone error rate says nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import dropwhile
from typing import Protocol, TypeVar

from asrkit.scoring.per import score

_CLEARLY = 0.9  # the phase ends when errors fall below this share of the errors of hypotheses that ignore the audio


class EpochOutput(Protocol):
    """The part of an epoch's record that says whether the epoch was in the blank phase."""

    @property
    def blank_phase(self) -> bool:
        """The result of is_blank_phase()."""


EpochT = TypeVar("EpochT", bound=EpochOutput)


def is_blank_phase(refs: Mapping[str, Sequence[str]], hyps: Mapping[str, Sequence[str]]) -> bool:
    """Whether hypotheses fit their utterances hardly better than empty hypotheses, or than they fit other utterances.

    `refs` and `hyps` have the same utterances. Each hypothesis is also scored against the reference of another
    utterance. A network that gives the same output for all utterances, or random phones, has as many errors there.
    """
    num_errors, num_ref = _num_errors(refs, hyps), sum(map(len, refs.values()))
    others = _others(refs)
    crossed = _num_errors({utt_id: refs[other] for utt_id, other in others.items()}, hyps)
    own = _num_errors({utt_id: refs[utt_id] for utt_id in others}, hyps)
    return num_errors >= _CLEARLY * num_ref or (bool(others) and own >= _CLEARLY * crossed)


def _num_errors(refs: Mapping[str, Sequence[str]], hyps: Mapping[str, Sequence[str]]) -> int:
    return score(refs, {utt_id: hyps[utt_id] for utt_id in refs}).num_errors


def _others(refs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each utterance another one with a different reference of similar length. Each is used once.

    The utterances form a ring, in order of length: first every second one, upwards, then the others, downwards. Each is
    paired with the one m places further on, where m is the count of the most frequent reference. Utterances that meet
    an equal reference are left out.
    """
    ranked = sorted(refs, key=lambda utt_id: (len(refs[utt_id]), *refs[utt_id]))
    ring = ranked[::2] + ranked[1::2][::-1]
    shift = max(Counter(tuple(ref) for ref in refs.values()).values(), default=0)
    met = zip(ring, ring[shift:] + ring[:shift], strict=True)
    return {utt_id: other for utt_id, other in met if tuple(refs[utt_id]) != tuple(refs[other])}


def after_blank_phase(epochs: Iterable[EpochT]) -> list[EpochT]:
    """The epochs from the first one that was not in the blank phase."""
    return list(dropwhile(lambda epoch: epoch.blank_phase, epochs))
