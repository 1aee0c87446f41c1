"""The blank phase, in which a CTC network does not listen yet: how it is recognized, and what is left out for it.

CTC networks first learn to emit blanks, then what most utterances have in common: silence at both ends, frequent
phones. The loss falls meanwhile, but the phone error rate says nothing, for the output has little to do with the audio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import dropwhile
from typing import Protocol, TypeVar

from asrkit.scoring.per import score

_CLEARLY = 0.9  # the share of what needs no audio that errors have to fall below


class EpochOutput(Protocol):
    """Of an epoch's record, what is_blank_phase() found."""

    @property
    def blank_phase(self) -> bool: ...


EpochT = TypeVar("EpochT", bound=EpochOutput)


def is_blank_phase(refs: Mapping[str, Sequence[str]], hyps: Mapping[str, Sequence[str]]) -> bool:
    """Whether hypotheses fit their own utterances hardly better than no hypothesis does, or another utterance's.

    `refs` and `hyps` hold the same utterances. Each hypothesis is also scored against the reference of another
    utterance. Of a network that gives the same to every utterance, or phones at random, it has as many errors there.
    """
    num_errors, num_ref = _num_errors(refs, hyps), sum(map(len, refs.values()))
    others = _others(refs)
    crossed = _num_errors({utt_id: refs[other] for utt_id, other in others.items()}, hyps)
    own = _num_errors({utt_id: refs[utt_id] for utt_id in others}, hyps)
    return num_errors >= _CLEARLY * num_ref or (bool(others) and own >= _CLEARLY * crossed)


def _num_errors(refs: Mapping[str, Sequence[str]], hyps: Mapping[str, Sequence[str]]) -> int:
    return score(refs, {utt_id: hyps[utt_id] for utt_id in refs}).num_errors


def _others(refs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each utterance another one with another reference of much the same length; each is taken once.

    On a ring that goes up through every second length and down through the others, each meets the one that is as many
    places on as the most frequent reference has utterances. Those that meet their own reference are left out.
    """
    ranked = sorted(refs, key=lambda utt_id: (len(refs[utt_id]), *refs[utt_id]))
    ring = ranked[::2] + ranked[1::2][::-1]
    shift = max(Counter(tuple(ref) for ref in refs.values()).values(), default=0)
    met = zip(ring, ring[shift:] + ring[:shift], strict=True)
    return {utt_id: other for utt_id, other in met if tuple(refs[utt_id]) != tuple(refs[other])}


def after_blank_phase(epochs: Iterable[EpochT]) -> list[EpochT]:
    """The epochs from the first on that was not in the phase."""
    return list(dropwhile(lambda epoch: epoch.blank_phase, epochs))
