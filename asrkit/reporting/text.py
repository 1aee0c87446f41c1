"""Error report of one decoded data directory: its figures as JSON values, and the report as plain text."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asrkit.scoring.per import Counts, kind_counts, pair_kind
from asrkit.scoring.protocols import AS_IS, Protocol, silences
from asrkit.scoring.significance import to_json
from asrkit.scoring.tally import NUM_WORST, Group, Tally, badness, length_name

UNKNOWN_SEX = "unknown"
GAP = "***"  # the missing side of an insertion or a deletion, as sclite writes it


def build_report(tally: Tally, spk2gender: Mapping[str, str], protocol: Protocol = AS_IS) -> dict[str, Any]:
    """Gather all figures of the report as JSON values.

    "line" is the PER, and "intro" contains the lines that explain it. Rates are in percent. Speakers, phones,
    confusions and utterances are sorted with the worst first.

    Args:
        tally: the counts.
        spk2gender: speaker -> sex; for a speaker that is not in it the report says "unknown".
        protocol: the protocol of the counts.
    """
    total = tally.total
    by_unit = tally.intervals()
    spks_of: dict[str, list[str]] = defaultdict(list)
    for spk in tally.speakers:
        spks_of[spk2gender.get(spk, UNKNOWN_SEX)].append(spk)
    speakers = {spk: (group.num_utts, group.counts) for spk, group in tally.speakers.items()}
    return {
        "line": total.line(),
        "intro": [
            protocol.describe_pairs(tally.pair_counts, total.num_ref),
            *(interval.text(unit) for unit, interval in by_unit.items()),
        ],
        "protocol": protocol.name,
        "total": total.to_dict(),
        "intervals": to_json(by_unit),
        "scored": _scored(tally),
        "sexes": [
            {"sex": sex, "num_spks": len(spks), **_group_row(Group.of(tally.speakers[spk] for spk in spks))}
            for sex, spks in sorted(spks_of.items())
        ],
        "lengths": [
            {"tokens": length_name(number), **_group_row(tally.lengths[number])} for number in sorted(tally.lengths)
        ],
        "speakers": [
            {"spk": spk, "sex": spk2gender.get(spk, UNKNOWN_SEX), "num_utts": num_utts, **counts.to_dict()}
            for spk, (num_utts, counts) in sorted(speakers.items(), key=lambda row: (*badness(row[1][1]), row[0]))
        ],
        "phones": _phones(tally),
        "confusions": [
            {"ref": ref, "hyp": hyp, "count": count}
            for (ref, hyp), count in sorted(tally.pair_counts.items(), key=lambda item: (-item[1], str(item[0])))
            if ref is not None and hyp is not None and ref != hyp
        ],
        "worst_utts": [
            {"utt": each.utt, "spk": each.spk, **each.counts.to_dict(), "pairs": [list(pair) for pair in each.pairs]}
            for each in tally.worst[:NUM_WORST]
        ],
    }


def _group_row(group: Group) -> dict[str, Any]:
    return {"num_utts": group.num_utts, **group.counts.to_dict()}


def _scored(tally: Tally) -> dict[str, Any]:
    """What was scored. A PER means nothing without it."""
    silent = silences({symbol for pair in tally.pair_counts for symbol in pair if symbol is not None})
    return {
        "num_spks": len(tally.speakers),
        "num_utts": tally.num_utts,
        "num_utts_correct": tally.num_utts_correct,
        "num_symbols": len({ref for ref, _ in tally.pair_counts if ref is not None}),
        "silences": sorted(silent),
        "num_silence_ref": sum(count for (ref, _), count in tally.pair_counts.items() if ref in silent),
        "num_silence_neighbours": tally.num_silence_neighbours,
    }


def _phones(tally: Tally) -> list[dict[str, Any]]:
    """Errors by phone. A substitution or a deletion belongs to the reference phone, an insertion to the hypothesis
    phone.
    """
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for (ref, hyp), count in tally.pair_counts.items():
        phone = hyp if ref is None else ref
        assert phone is not None  # each pair has at least one phone
        table[phone][pair_kind((ref, hyp), tally.optional)] += count
    rows = []
    for phone, kinds in table.items():
        row = {"phone": phone, **kind_counts(kinds).to_dict()}
        del row["num_hyp"]  # unknown here: the rows count a phone's reference tokens, not its hypothesis tokens
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["num_errors"], row["phone"]))


def render_text(report: Mapping[str, Any], *, num_phones: int = 10, num_confusions: int = 20) -> str:
    """The report as plain text: the PER and its interval, the worst phones and confusions, then the rest.

    Three tables are left out where they say nothing: speakers if each utterance is its own speaker; sexes if none is
    known; all phones if there are at most `num_phones`.
    """
    total, scored, phones = report["total"], report["scored"], report["phones"]
    protocol, *intervals = report["intro"]
    ratio = f"{100 * total['num_hyp'] / total['num_ref']:.1f}" if total["num_ref"] else "-"
    lines = [report["line"], *intervals, protocol]
    if "hyp" in report:
        lines.append(f"{report['hyp']} against {report['ref']}")
    counts_header = ["tokens", "PER", "ins", "del", "sub"]

    def add_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
        lines.extend(["", title, *format_table([header, *rows])])

    def add_phones(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        header = ["phone", "errors", *counts_header]
        add_table(title, header, ([row["phone"], row["num_errors"], *_cells(row)] for row in rows))

    add_phones("Worst phones", phones[:num_phones])
    confusions = report["confusions"][:num_confusions]
    add_table("Top confusions", ["ref", "hyp", "count"], ([row["ref"], row["hyp"], row["count"]] for row in confusions))
    lines += [
        "",
        "What was scored",
        f"References: {total['num_ref']} tokens of {scored['num_symbols']} symbols, in {scored['num_utts']} utterances "
        f"of {scored['num_spks']} speakers",
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
    lines += ["", "Worst utterances"]
    for row in report["worst_utts"]:
        lines.append(f"{row['utt']} ({row['spk']}) {_per_line(row)}")
        columns = [[GAP if phone is None else phone for phone in pair] for pair in row["pairs"]]
        lines += format_table([["  ref", *(ref for ref, _ in columns)], ["  hyp", *(hyp for _, hyp in columns)]])
    add_table(
        "By length",
        ["tokens in reference", "utts", *counts_header],
        ([row["tokens"], row["num_utts"], *_cells(row)] for row in report["lengths"]),
    )
    if len(phones) > num_phones:
        add_phones("By phone", phones)
    if any(row["sex"] != UNKNOWN_SEX for row in report["sexes"]):
        add_table(
            "By sex",
            ["sex", "speakers", "utts", *counts_header],
            ([row["sex"], row["num_spks"], row["num_utts"], *_cells(row)] for row in report["sexes"]),
        )
    if scored["num_spks"] < scored["num_utts"]:
        add_table(
            "By speaker",
            ["speaker", "sex", "utts", *counts_header],
            ([row["spk"], row["sex"], row["num_utts"], *_cells(row)] for row in report["speakers"]),
        )
    return "\n".join(lines) + "\n"


def _per_line(row: Mapping[str, Any]) -> str:
    return Counts(row["num_ref"], row["num_ins"], row["num_del"], row["num_sub"]).line()


def _cells(row: Mapping[str, Any]) -> list[str | int]:
    rate = "-" if row["per"] is None else f"{row['per']:.2f}"
    return [row["num_ref"], rate, row["num_ins"], row["num_del"], row["num_sub"]]


def format_table(rows: Sequence[Sequence[str | int]]) -> list[str]:
    """Lines with aligned columns. Columns of numbers are right-aligned, others left-aligned."""
    columns = []
    for cells in zip(*rows, strict=True):
        texts = [str(cell) for cell in cells]
        width = max(map(_width, texts))
        to_right = len(cells) > 1 and (isinstance(cells[-1], int) or cells[0] == "PER")
        padding = [" " * (width - _width(text)) for text in texts]
        columns.append([pad + text if to_right else text + pad for pad, text in zip(padding, texts, strict=True)])
    return ["  ".join(line).rstrip(" ") for line in zip(*columns, strict=True)]


def _width(text: str) -> int:
    """Columns on the screen. Combining marks, which are frequent in IPA, take no column."""
    return sum(not unicodedata.combining(character) for character in text)
