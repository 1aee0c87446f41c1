"""Levenshtein alignment of two phone sequences.

A protocol can make phones optional: inserting or deleting them then costs nothing. jiwer has no optional phones, so
this module scores those protocols. For all other protocols it checks jiwer's counts.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

Pair = tuple[str | None, str | None]  # (reference, hypothesis); None on one side: an insertion or a deletion


def align(ref: Sequence[str], hyp: Sequence[str], optional: Container[str] = frozenset()) -> list[Pair]:
    """Align two phone sequences with the fewest edits.

    A substitution, an insertion and a deletion cost 1 each. A phone in `optional` is inserted or deleted at no cost,
    and it pairs only with itself. (A substitution of an optional phone would cost as much as inserting or deleting the
    other phone. So this rule does not change the number of edits.)

    Several alignments can have the fewest edits. The traceback starts at the end; it prefers a pair to a deletion, and
    a deletion to an insertion.

    Returns:
        (reference, hypothesis) pairs in order. None stands for the missing side of an insertion or a deletion.
    """
    return _align_by_costs(ref, hyp, optional) if optional else _align_by_bits(ref, hyp)


def _align_by_bits(ref: Sequence[str], hyp: Sequence[str]) -> list[Pair]:
    """Align when each edit costs 1. One integer holds a column of costs, with one bit for each phone of `ref`.

    Two neighbouring cells differ by 1 at most (Hyyrö, "Explaining and extending the bit-parallel approximate string
    matching algorithm of Myers", 2001). A bit of `same` is 1 where a cell costs as much as its neighbour on the
    diagonal. A bit of `above` is 1 where a cell costs 1 more than its neighbour one phone earlier in `ref`.
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
        more = (below | all_bits & ~(same | above)) << 1 | 1  # than the previous cell in hyp; first row: always
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
    """Align when phones can be optional, with the full table of costs."""
    ref_costs = [int(phone not in optional) for phone in ref]
    hyp_costs = [int(phone not in optional) for phone in hyp]
    never = len(ref) + len(hyp) + 1

    def pair_cost(i: int, j: int) -> int:
        if ref[i] == hyp[j]:
            return 0
        return 1 if ref_costs[i] and hyp_costs[j] else never

    # costs[i][j]: the fewest edits between the first i phones of ref and the first j phones of hyp
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
