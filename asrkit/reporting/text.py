"""An error report of one decoded data directory: figures gathered once, as plain values for JSON, and a text view."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from asrkit.scoring.per import Counts, PerResult, kind_counts, pair_kind, pool
from asrkit.scoring.protocols import AS_IS, Protocol, silences
from asrkit.scoring.significance import intervals, pool_speakers, to_json

GAP = "***"  # sclite's sign for the missing side of an insertion or deletion


def build_report(
    result: PerResult, utt2spk: Mapping[str, str], spk2gender: Mapping[str, str], protocol: Protocol = AS_IS
) -> dict[str, Any]:
    """Gather every figure of the report; all values are JSON's own types.

    `utt2spk` holds every utterance of `result`, which `protocol` gave. "line" is the PER and "intro" the lines that
    belong to it. Speakers that are not in `spk2gender` are of sex "unknown". Rates are in percent. Speakers, phones,
    confusions and utterances come worst first.
    """
    utts_of: dict[str, list[str]] = defaultdict(list)
    spks_of: dict[str, list[str]] = defaultdict(list)
    for utt in result.per_utt:
        utts_of[utt2spk[utt]].append(utt)
    for spk in utts_of:
        spks_of[spk2gender.get(spk, "unknown")].append(spk)
    per_spk = pool_speakers(result.per_utt, utt2spk)
    by_unit = intervals(result.per_utt, utt2spk)
    return {
        "line": result.line(),
        "intro": [protocol.describe(result), *(interval.text(unit) for unit, interval in by_unit.items())],
        "protocol": protocol.name,
        "total": result.to_dict(),
        "intervals": to_json(by_unit),
        "scored": _scored(result, len(per_spk)),
        "sexes": [
            {
                "sex": sex,
                "num_spks": len(spks),
                "num_utts": sum(len(utts_of[spk]) for spk in spks),
                **pool(per_spk[spk] for spk in spks).to_dict(),
            }
            for sex, spks in sorted(spks_of.items())
        ],
        "speakers": [
            {
                "spk": spk,
                "sex": spk2gender.get(spk, "unknown"),
                "num_utts": len(utts_of[spk]),
                **per_spk[spk].to_dict(),
            }
            for spk in sorted(per_spk, key=lambda spk: (*_badness(per_spk[spk]), spk))
        ],
        "phones": _phones(result),
        "confusions": [
            {"ref": ref, "hyp": hyp, "count": count}
            for (ref, hyp), count in sorted(result.pair_counts.items(), key=lambda item: (-item[1], str(item[0])))
            if ref is not None and hyp is not None and ref != hyp
        ],
        "worst_utts": [
            {
                "utt": utt,
                "spk": utt2spk[utt],
                **counts.to_dict(),
                "pairs": [list(pair) for pair in result.pairs[utt]],
            }
            for utt, counts in sorted(result.per_utt.items(), key=lambda item: (*_badness(item[1]), item[0]))[:10]
            if counts.num_errors
        ],
    }


def _badness(counts: Counts) -> tuple[float, int]:
    """Sorts the worst first; without reference tokens there is no rate, and any error is worse than all rates."""
    rate = counts.per if counts.num_ref else math.inf if counts.num_errors else 0.0
    return -rate, -counts.num_errors


def _scored(result: PerResult, num_spks: int) -> dict[str, Any]:
    """What the rate was counted over: a PER means nothing without it."""
    silent = silences({symbol for pair in result.pair_counts for symbol in pair if symbol is not None})
    refs = [[ref for ref, _ in pairs if ref is not None] for pairs in result.pairs.values()]
    return {
        "num_spks": num_spks,
        "num_utts": len(result.per_utt),
        "num_utts_correct": sum(counts.num_errors == 0 for counts in result.per_utt.values()),
        "num_symbols": len({phone for ref in refs for phone in ref}),
        "silences": sorted(silent),
        "num_silence_ref": sum(phone in silent for ref in refs for phone in ref),
        "num_silence_neighbours": sum(a in silent and b in silent for ref in refs for a, b in pairwise(ref)),
    }


def _phones(result: PerResult) -> list[dict[str, Any]]:
    """Errors by phone: substitutions and deletions of the reference's phone, insertions of the hypothesis's."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for (ref, hyp), count in result.pair_counts.items():
        phone = hyp if ref is None else ref
        assert phone is not None  # a pair has a phone on one side at least
        table[phone][pair_kind((ref, hyp), result.optional)] += count
    rows = []
    for phone, kinds in table.items():
        row = {"phone": phone, **kind_counts(kinds).to_dict()}
        del row["num_hyp"]  # of this phone it is not known from what became of its reference tokens
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["num_errors"], row["phone"]))


def render_text(report: Mapping[str, Any], *, num_confusions: int = 20) -> str:
    """The report as plain text, its rate first."""
    total, scored = report["total"], report["scored"]
    ratio = f"{100 * total['num_hyp'] / total['num_ref']:.1f}" if total["num_ref"] else "-"
    lines = [
        report["line"],
        *report["intro"],
        f"Scored: {total['num_ref']} reference tokens of {scored['num_symbols']} symbols, in {scored['num_utts']} "
        f"utterances of {scored['num_spks']} speakers",
        f"Silence: {' '.join(scored['silences'])}, {scored['num_silence_ref']} in the references, "
        f"{scored['num_silence_neighbours']} of them right after another"
        if scored["silences"]
        else "Silence: there is no silence symbol among the tokens",
        f"Hypotheses: {total['num_hyp']} tokens, {ratio} % of the references; {total['num_del']} deletions, "
        f"{total['num_ins']} insertions",
        f"Without an error: {scored['num_utts_correct']} of {scored['num_utts']} utterances",
    ]
    if total["num_free_ins"] or total["num_free_del"]:
        lines.append(f"At no cost: {total['num_free_del']} deletions, {total['num_free_ins']} insertions of silence")
    counts_header = ["tokens", "PER", "ins", "del", "sub"]
    sections = {
        "By sex": [
            ["sex", "speakers", "utts", *counts_header],
            *([row["sex"], row["num_spks"], row["num_utts"], *_cells(row)] for row in report["sexes"]),
        ],
        "By speaker": [
            ["speaker", "sex", "utts", *counts_header],
            *([row["spk"], row["sex"], row["num_utts"], *_cells(row)] for row in report["speakers"]),
        ],
        "By phone": [
            ["phone", "errors", *counts_header],
            *([row["phone"], row["num_errors"], *_cells(row)] for row in report["phones"]),
        ],
        "Top confusions": [
            ["ref", "hyp", "count"],
            *([row["ref"], row["hyp"], row["count"]] for row in report["confusions"][:num_confusions]),
        ],
    }
    for title, rows in sections.items():
        lines += ["", title, *format_table(rows)]
    lines += ["", "Worst utterances"]
    for row in report["worst_utts"]:
        lines.append(f"{row['utt']} ({row['spk']}) {_per_line(row)}")
        columns = [[GAP if phone is None else phone for phone in pair] for pair in row["pairs"]]
        lines += format_table([["  ref", *(ref for ref, _ in columns)], ["  hyp", *(hyp for _, hyp in columns)]])
    return "\n".join(lines) + "\n"


def _per_line(row: Mapping[str, Any]) -> str:
    return Counts(row["num_ref"], row["num_ins"], row["num_del"], row["num_sub"]).line()


def _cells(row: Mapping[str, Any]) -> list[str | int]:
    rate = "-" if row["per"] is None else f"{row['per']:.2f}"
    return [row["num_ref"], rate, row["num_ins"], row["num_del"], row["num_sub"]]


def format_table(rows: Sequence[Sequence[str | int]]) -> list[str]:
    """Lines with aligned columns: those that hold numbers (or rates) below their header to the right."""
    columns = []
    for cells in zip(*rows, strict=True):
        texts = [str(cell) for cell in cells]
        width = max(map(_width, texts))
        to_right = len(cells) > 1 and (isinstance(cells[-1], int) or cells[0] == "PER")
        padding = [" " * (width - _width(text)) for text in texts]
        columns.append([pad + text if to_right else text + pad for pad, text in zip(padding, texts, strict=True)])
    return ["  ".join(line).rstrip(" ") for line in zip(*columns, strict=True)]


def _width(text: str) -> int:
    """Columns on the screen: combining marks, which IPA uses much, take none."""
    return sum(not unicodedata.combining(character) for character in text)
