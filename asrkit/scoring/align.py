"""Levenshtein alignment of two phone sequences, with phones that cost nothing where the protocol makes them optional.

It scores what jiwer cannot (optional phones) and checks jiwer's counts where both can.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

Pair = tuple[str | None, str | None]  # (reference, hypothesis); None on one side: an insertion or a deletion


def align(ref: Sequence[str], hyp: Sequence[str], optional: Container[str] = frozenset()) -> list[Pair]:
    """One alignment with the fewest edits (substitutions, insertions, deletions cost 1 each).

    Phones in `optional` are inserted and deleted at no cost and are paired with themselves only; a substitution
    by or of one would cost as much as the other side's insertion or deletion, so the number of edits is the same.
    Of alignments that cost the same, traced from the end, a pair is preferred to a deletion, a deletion to an
    insertion.
    """
    return _align_by_costs(ref, hyp, optional) if optional else _align_by_bits(ref, hyp)


def _align_by_bits(ref: Sequence[str], hyp: Sequence[str]) -> list[Pair]:
    """The alignment when each edit costs 1: a column of costs is one whole number, with a bit for each phone of `ref`.

    Costs of neighbours differ by 1 at most (Hyyrö, "Explaining and extending the bit-parallel approximate string
    matching algorithm of Myers", 2001): `same` has the cells that cost as much as the one before in both sequences,
    `above` those that cost 1 more than the one before in `ref`.
    """
    all_bits = (1 << len(ref)) - 1
    places: dict[str, int] = {}
    for i, phone in enumerate(ref):
        places[phone] = places.get(phone, 0) | 1 << i
    columns = []
    above, below = all_bits, 0
    for phone in hyp:
        equal = places.get(phone, 0)
        same = (((equal & above) + above) ^ above | equal | below) & all_bits
        more = (below | all_bits & ~(same | above)) << 1 | 1  # than the cell before in hyp; the first row, always
        less = (same & above) << 1
        above, below = (less | ~(same | more)) & all_bits, more & same
        columns.append((same, above))
    pairs: list[Pair] = []
    i, j = len(ref), len(hyp)
    while i and j:
        same, above = columns[j - 1]
        bit = 1 << (i - 1)
        if ref[i - 1] == hyp[j - 1] or not same & bit:
            i, j = i - 1, j - 1
            pairs.append((ref[i], hyp[j]))
        elif above & bit:
            i -= 1
            pairs.append((ref[i], None))
        else:
            j -= 1
            pairs.append((None, hyp[j]))
    first: list[Pair] = [(phone, None) for phone in ref[:i]] or [(None, phone) for phone in hyp[:j]]
    return first + pairs[::-1]


def _align_by_costs(ref: Sequence[str], hyp: Sequence[str], optional: Container[str]) -> list[Pair]:
    """The alignment when phones may be optional, from the table of all costs."""
    ref_costs = [int(phone not in optional) for phone in ref]
    hyp_costs = [int(phone not in optional) for phone in hyp]
    never = len(ref) + len(hyp) + 1

    def pair_cost(i: int, j: int) -> int:
        if ref[i] == hyp[j]:
            return 0
        return 1 if ref_costs[i] and hyp_costs[j] else never

    # costs[i][j]: edits between the first i of ref and the first j of hyp
    costs = [[0]]
    for cost in hyp_costs:
        costs[0].append(costs[0][-1] + cost)
    for i, ref_cost in enumerate(ref_costs):
        above = costs[-1]
        row = [above[0] + ref_cost]
        for j, hyp_cost in enumerate(hyp_costs):
            row.append(min(above[j] + pair_cost(i, j), above[j + 1] + ref_cost, row[j] + hyp_cost))
        costs.append(row)
    pairs: list[Pair] = []
    i, j = len(ref), len(hyp)
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + pair_cost(i - 1, j - 1):
            i, j = i - 1, j - 1
            pairs.append((ref[i], hyp[j]))
        elif i and costs[i][j] == costs[i - 1][j] + ref_costs[i - 1]:
            i -= 1
            pairs.append((ref[i], None))
        else:
            j -= 1
            pairs.append((None, hyp[j]))
    return pairs[::-1]
