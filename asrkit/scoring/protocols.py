"""Scoring protocols: how transcripts are prepared before errors are counted, and which errors count.

A PER means nothing without its protocol. docs/scoring.md says which published results follow which protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from asrkit.errors import DataError, location, name_some
from asrkit.findings import Findings
from asrkit.lang.phone_map import TIMIT_TO_39, PhoneMap
from asrkit.lang.symbols import name_symbols
from asrkit.scoring.align import Pair
from asrkit.scoring.per import PerResult, score

SILENCES = frozenset({"sil", "<sil>", "silence", "sp", "pau", "epi", "h#"})  # compared without case
FOLDED_SILENCE = "sil"


@dataclass(frozen=True)
class Protocol:
    """How transcripts are scored. References and hypotheses are treated in the same way.

    Attributes:
        name: the value of --protocol.
        phone_map: folds the symbols, for example to 39 phones; None leaves them as they are written.
        merge_silence: whether neighbouring silences become one silence, after folding.
        silence: "scored": silence is a token like any other. "optional": inserting or deleting it costs nothing, but
            silences of the references count among the reference tokens. "removed": silence is removed after folding.
    """

    name: str
    phone_map: PhoneMap | None
    merge_silence: bool
    silence: str

    @property
    def folding(self) -> str:
        """How symbols are folded, in words for a report."""
        return "as written" if self.phone_map is None else f"{len(self.phone_map.targets)} phones"

    def prepare(self, phones: Iterable[str]) -> tuple[str, ...]:
        """Fold one transcript and treat its silences. Raises DataError for a symbol that the phone map lacks."""
        if self.phone_map is None:
            return tuple(phones)
        phones = self.phone_map.fold(phones)
        if self.silence == "removed":
            return tuple(phone for phone in phones if phone != FOLDED_SILENCE)
        if self.merge_silence:
            return phones[:1] + tuple(b for a, b in pairwise(phones) if not a == b == FOLDED_SILENCE)
        return phones

    def score(
        self,
        refs: Mapping[str, Sequence[str]],
        hyps: Mapping[str, Sequence[str]],
        *,
        ref_name: str = "references",
        hyp_name: str = "hypotheses",
    ) -> PerResult:
        """Score hypotheses against references (utterance id -> phones).

        A protocol that folds takes phones from the sets of 61, 48 or 39 TIMIT phones.

        Raises:
            DataError: symbols cannot be folded; an utterance lacks its hypothesis or its reference; or the protocol
                leaves no phone in the references.
        """
        self.check_symbols({ref_name: refs, hyp_name: hyps})
        self.check_references(refs, ref_name)
        return self.score_part(refs, hyps, ref_name=ref_name, hyp_name=hyp_name)

    def check_references(self, refs: Mapping[str, Sequence[str]], name: str) -> None:
        """Check that the protocol leaves a phone to score: without one there is no rate.

        Args:
            refs: utterance id -> reference phones.
            name: what messages call `refs`; usually a file name.

        Raises:
            DataError: no phone is left, or symbols cannot be folded.
        """
        self.check_symbols({name: refs})
        if refs and not any(self.prepare(phones) for phones in refs.values()):
            symbols = name_some(sorted({phone for phones in refs.values() for phone in phones})) or "nothing"
            raise DataError(f"{location(name)}no phone to score is left by protocol {self.name}; it holds {symbols}")

    def score_part(
        self,
        refs: Mapping[str, Sequence[str]],
        hyps: Mapping[str, Sequence[str]],
        *,
        ref_name: str = "references",
        hyp_name: str = "hypotheses",
    ) -> PerResult:
        """Score a part of a set, as `score` does. The protocol may leave no phone in the references of a part.

        Raises:
            DataError: symbols cannot be folded, or an utterance lacks its hypothesis or its reference.
        """
        self.check_symbols({ref_name: refs, hyp_name: hyps})
        return score(
            {utt: self.prepare(phones) for utt, phones in refs.items()},
            {utt: self.prepare(phones) for utt, phones in hyps.items()},
            ref_name=ref_name,
            hyp_name=hyp_name,
            optional=frozenset({FOLDED_SILENCE}) if self.silence == "optional" else frozenset(),
        )

    def check_symbols(self, transcripts_of: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Check that all symbols can be folded. `transcripts_of`: file name -> transcripts.

        Raises:
            DataError: some cannot; one line for each file.
        """
        if self.phone_map is None:
            return
        findings = Findings()
        for name, transcripts in transcripts_of.items():
            unknown = self.phone_map.unknown(phone for phones in transcripts.values() for phone in phones)
            if unknown:
                findings.error(
                    f"not among {self.phone_map.name}, which protocol {self.name} folds: "
                    f"{name_symbols(unknown, self.phone_map.sources)}; "
                    f"score other symbols with protocol {AS_IS.name}",
                    name,
                )
        findings.raise_errors()

    def describe(self, result: PerResult) -> str:
        """The line that goes with a PER: folding, silence, neighbouring silences and number of reference tokens."""
        return self.describe_pairs(result.pair_counts, result.num_ref)

    def describe_pairs(self, pairs: Iterable[Pair], num_ref: int) -> str:
        """The line of `describe`, from the pairs that occur and the number of reference tokens."""
        symbols = {symbol for pair in pairs for symbol in pair if symbol is not None}
        if self.silence == "removed":
            silence = "silence removed, not scored"
        elif self.silence == "optional":
            silence = "silence optional (free to insert and to delete)"
        elif self.phone_map is not None:
            silence = "silence scored"
        else:
            names = sorted(silences(symbols))
            silence = f"silence scored ({' '.join(names)})" if names else "silence scored (no such symbol)"
        parts = [f"symbols {self.folding}" if self.phone_map is None else f"folded to {self.folding}", silence]
        if self.silence != "removed":
            parts.append(f"adjacent silences {'merged' if self.merge_silence else 'kept'}")
        return f"protocol {self.name}: {'; '.join(parts)}; {num_ref} reference tokens"


AS_IS = Protocol("as-is", None, False, "scored")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        AS_IS,
        Protocol("kaldi", TIMIT_TO_39, False, "scored"),
        Protocol("merged", TIMIT_TO_39, True, "scored"),
        Protocol("optional-silence", TIMIT_TO_39, False, "optional"),
        Protocol("no-silence", TIMIT_TO_39, False, "removed"),
    )
}


def silences(symbols: Iterable[str]) -> set[str]:
    """The symbols that stand for silence, judged by their names."""
    return {symbol for symbol in symbols if symbol.casefold() in SILENCES}
