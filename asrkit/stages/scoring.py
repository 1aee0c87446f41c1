"""Scoring of transcripts and of phone times: phone error rate, intervals, and comparison of two systems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm
from asrkit.formats.label import check_labels
from asrkit.formats.transcripts import read_transcripts
from asrkit.scoring.boundaries import BoundaryResult, compare_times
from asrkit.scoring.per import PerResult, pair_kind
from asrkit.scoring.protocols import AS_IS, Protocol
from asrkit.scoring.significance import Comparison, Interval, intervals, pool_speakers, to_json
from asrkit.scoring.significance import compare as compare_counts
from asrkit.scoring.transcripts import read_references, read_utt2spk, transcript_warnings
from asrkit.types import PhoneTime


@dataclass(frozen=True)
class Score:
    """A phone error rate with its counts, intervals and protocol.

    Attributes:
        protocol: how the transcripts were treated before errors were counted.
        result: the counts (`result.per` in percent) and the alignment of each utterance.
        intervals: 95 % intervals of the rate, over "utterances" and, if speakers are known, over "speakers".
        warnings: a line for each pair of symbols in the two files that look alike but differ.
    """

    protocol: Protocol
    result: PerResult
    intervals: Mapping[str, Interval]
    warnings: Sequence[str] = ()

    @property
    def per(self) -> float:
        """The phone error rate in percent."""
        return self.result.per

    def lines(self) -> list[str]:
        """A summary: what was counted, the intervals and, last, the phone error rate."""
        sure = [interval.text(unit) for unit, interval in self.intervals.items()]
        return [self.protocol.describe(self.result), *sure, self.result.line()]

    def to_dict(self) -> dict[str, object]:
        """All figures, for all utterances together and for each one, as JSON values."""
        return {
            "protocol": self.protocol.name,
            "description": self.protocol.describe(self.result),
            **self.result.to_dict(),
            "num_utts": len(self.result.per_utt),
            "intervals": to_json(self.intervals),
            "utts": {utt: counts.to_dict() for utt, counts in self.result.per_utt.items()},
        }


@dataclass(frozen=True)
class SystemComparison:
    """Two systems, A and B, on the same references.

    Attributes:
        protocol: how the transcripts were treated before errors were counted.
        a, b: each system's counts.
        by_unit: the difference A - B and its interval, by the unit of the bootstrap ("utterances", "speakers").
        warnings: a line for each pair of symbols in the files that look alike but differ.
    """

    protocol: Protocol
    a: PerResult
    b: PerResult
    by_unit: Mapping[str, Comparison]
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """A summary: what was counted, both rates, and their difference with its intervals."""
        sure = [
            f"{found.interval.text(unit)}; probability that A is better: {found.prob_a_better:.4f}"
            for unit, found in self.by_unit.items()
        ]
        rates = [f"{name}: {each.line()}" for name, each in (("A", self.a), ("B", self.b))]
        return [self.protocol.describe(self.a), *rates, f"A - B: {self.a.per - self.b.per:.2f}", *sure]


def build_comparison(systems: SystemComparison) -> dict[str, Any]:
    """All figures of a comparison as JSON values; "lines" is a summary. Phones on which A is better come first."""
    a, b = systems.a, systems.b
    errors = [_phone_errors(each) for each in (a, b)]
    tokens: Counter[str] = Counter()
    for (ref, _), count in a.pair_counts.items():
        if ref is not None:
            tokens[ref] += count
    phones = sorted(errors[0].keys() | errors[1].keys() | tokens.keys(), key=lambda p: (errors[0][p] - errors[1][p], p))
    pairs = {pair for each in (a, b) for pair in each.pair_counts if None not in pair and pair[0] != pair[1]}
    return {
        "protocol": systems.protocol.name,
        "lines": systems.lines(),
        "totals": [each.to_dict() for each in (a, b)],
        "difference": a.per - b.per,
        "by_unit": {
            unit: {"interval": found.interval.to_dict(), "prob_a_better": found.prob_a_better}
            for unit, found in systems.by_unit.items()
        },
        "phones": [
            {"phone": phone, "num_ref": tokens[phone], "a": errors[0][phone], "b": errors[1][phone]} for phone in phones
        ],
        "confusions": [
            {"ref": ref, "hyp": hyp, "a": a.pair_counts[ref, hyp], "b": b.pair_counts[ref, hyp]}
            for ref, hyp in sorted(pairs, key=lambda pair: (a.pair_counts[pair] - b.pair_counts[pair], str(pair)))
        ],
        **({"warnings": list(systems.warnings)} if systems.warnings else {}),
    }


def _phone_errors(result: PerResult) -> Counter[str]:
    """Errors by phone of the reference. Insertions belong to the inserted phone."""
    errors: Counter[str] = Counter()
    for (ref, hyp), count in result.pair_counts.items():
        phone = hyp if ref is None else ref
        if phone is not None and pair_kind((ref, hyp), result.optional) in ("ins", "del", "sub"):
            errors[phone] += count
    return errors


def score(ref: str | Path, hyp: str | Path, *, protocol: Protocol = AS_IS, utt2spk: str | Path | None = None) -> Score:
    """Score a file of transcripts (`utt_id phone phone ...` lines) against a file of references.

    Args:
        protocol: how errors are counted (folding of symbols, treatment of silence), one of PROTOCOLS.
        utt2spk: a table of speakers, for an additional interval over speakers.

    Raises:
        DataError: a file is missing or faulty, utterances are in only one of the files, an utterance has no speaker,
            the protocol does not know a symbol, or it leaves no reference phone to score.
    """
    return score_by_protocols(ref, hyp, [protocol], utt2spk=utt2spk)[0]


def score_by_protocols(
    ref: str | Path, hyp: str | Path, protocols: Sequence[Protocol], *, utt2spk: str | Path | None = None
) -> list[Score]:
    """Score with each of several protocols. Arguments and errors are those of `score`."""
    refs, hyps = read_references(ref), read_transcripts(hyp)
    speakers = None if utt2spk is None else read_utt2spk(utt2spk, refs, ref)
    warnings = transcript_warnings({str(ref): refs.values(), str(hyp): hyps.values()})
    results = [protocol.score(refs, hyps, ref_name=str(ref), hyp_name=str(hyp)) for protocol in protocols]
    return [
        Score(protocol, result, intervals(result.per_utt, speakers), warnings)
        for protocol, result in zip(protocols, results, strict=True)
    ]


def compare(
    ref: str | Path,
    hyp_a: str | Path,
    hyp_b: str | Path,
    *,
    protocol: Protocol = AS_IS,
    utt2spk: str | Path | None = None,
) -> SystemComparison:
    """Compare two systems by the paired bootstrap, over utterances and, with `utt2spk`, over speakers.

    Args:
        ref, hyp_a, hyp_b: files of references, and of the transcripts of both systems.
        protocol, utt2spk: as for `score`.

    Raises:
        DataError: as `score`, for either system.
    """
    refs = read_references(ref)
    speakers = None if utt2spk is None else read_utt2spk(utt2spk, refs, ref)
    hyps_of = {str(hyp): read_transcripts(hyp) for hyp in (hyp_a, hyp_b)}
    a, b = (protocol.score(refs, hyps_of[name], ref_name=str(ref), hyp_name=name) for name in (str(hyp_a), str(hyp_b)))
    units = {"utterances": (a.per_utt, b.per_utt)}
    if speakers is not None:
        units["speakers"] = (pool_speakers(a.per_utt, speakers), pool_speakers(b.per_utt, speakers))
    by_unit = {
        unit: compare_counts([*counts_a.values()], [*counts_b.values()]) for unit, (counts_a, counts_b) in units.items()
    }
    names = {str(ref): refs.values()} | {name: hyps.values() for name, hyps in hyps_of.items()}
    return SystemComparison(protocol, a, b, by_unit, transcript_warnings(names))


def compare_boundaries(ref: str | Path, hyp: str | Path) -> BoundaryResult:
    """Compare the phone times of a CTM file with the true ones.

    Args:
        ref: true times: a CTM file, or a data directory that has a phones.ctm.
        hyp: the CTM file of decoded or aligned phones.

    Raises:
        DataError: a file is missing or faulty, or `hyp` has utterances that `ref` lacks.
    """
    ref = Path(ref) / "phones.ctm" if Path(ref).is_dir() else ref
    return compare_times(_read_times(ref), _read_times(hyp), ref_name=str(ref), hyp_name=str(hyp))


def _read_times(path: str | Path) -> dict[str, list[PhoneTime]]:
    findings = Findings()
    labels = {utt: check_labels(row, path, findings) for utt, row in read_ctm(path, findings).items()}
    findings.raise_errors()
    return {utt: [label.time for label in row if label.time is not None] for utt, row in labels.items()}
