"""The result of reading a corpus, the same for all corpora."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asrkit.types import CorpusInfo, Utterance

SET_NAMES = ("train", "dev", "test")


@dataclass(frozen=True)
class Corpus:
    """The content of a corpus on disk.

    Attributes:
        phones: the symbols of the token table, in order.
        sets: the utterances of train, dev and test. A set without utterances has no entry.
        durations: utterance id -> length in seconds. If None, the lengths are read from the audio.
        warnings: deviations of this copy from the corpus, one line each. The copy is usable.
        notes: what was found and chosen, one line each.
        info: the description of the corpus; None if it is not known.
    """

    phones: Sequence[str]
    sets: Mapping[str, list[Utterance]]
    durations: Mapping[str, float] | None = None
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    info: CorpusInfo | None = None
