"""The result of reading any corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asrkit.types import CorpusInfo, Utterance

SET_NAMES = ("train", "dev", "test")


@dataclass(frozen=True)
class Corpus:
    """A corpus on disk.

    `phones` are the symbols of the token table in order. `sets` has no entry for a set without utterances.
    `durations`, in seconds by utt_id, may be left out; the audio is then asked. `warnings` are for a copy that is
    usable but not what it should be, `notes` say what was found and chosen, a line each. `info`: what corpus it is,
    where that is known.
    """

    phones: Sequence[str]
    sets: Mapping[str, list[Utterance]]
    durations: Mapping[str, float] | None = None
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    info: CorpusInfo | None = None
