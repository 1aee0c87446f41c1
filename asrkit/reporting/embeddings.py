"""The embeddings of a language model's phones: nearest neighbours by cosine, and a picture.

Legend: n phones, E size of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asrkit.drawing import COLORS, plots
from asrkit.errors import DataError
from asrkit.io.atomic import atomic_write
from asrkit.lang.articulation import MANNERS, OTHER, articulation
from asrkit.lang.ipa import ipa_table

GROUPS = ("vowels", "stops", "affricates", "fricatives", "nasals", "liquids and glides", OTHER)  # a colour for each
_MARKERS = ("o", "s", "D", "^", "v", "P", "x")
_GROUP_OF = {
    **{"plosives": "stops", "implosives": "stops", "clicks": "stops", "lateral fricatives": "fricatives"},
    **dict.fromkeys(("approximants", "laterals", "trills and taps"), "liquids and glides"),
    **{manner: "vowels" for manner in MANNERS if manner.endswith("vowels")},
}
_NUM_NEIGHBOURS = 3


def groups_of(phones: Sequence[str]) -> list[str]:
    """The group of each phone, one of GROUPS. Symbols that are in no table to IPA count as IPA."""
    try:
        table = ipa_table(phones)
    except DataError:
        table = {}
    manners = (articulation(table.get(phone, phone))[0] for phone in phones)
    return [_GROUP_OF.get(manner, manner) for manner in manners]


def nearest(embeddings: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the `number` other rows of highest cosine for each row of `embeddings` (n, E).

    Returns:
        The indices of these rows, the highest cosine first, and the cosines: (n, number) each.
    """
    unit = _unit(embeddings)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :number]
    return order, np.take_along_axis(cosines, order, axis=1)


def plane(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project `embeddings` (n, E), scaled to length 1, onto the plane of their first two principal components.

    Returns:
        The places (n, 2), and the share of the variance in each of the two directions (2,).
    """
    centred = _unit(embeddings) - _unit(embeddings).mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :2] * sizes[:2], sizes[:2] ** 2 / (sizes**2).sum()


def write_neighbours(phones: Sequence[str], embeddings: np.ndarray, path: Path) -> tuple[float, float]:
    """Write a line for each phone: its group, and its nearest neighbours in `embeddings` (n, E) with their cosines.

    Returns:
        The share of phones whose nearest neighbour has the same group, and the share expected by chance.
    """
    groups, (order, cosines) = groups_of(phones), nearest(embeddings, min(_NUM_NEIGHBOURS, len(phones) - 1))
    with atomic_write(path) as stream:
        for phone, group, others, values in zip(phones, groups, order.tolist(), cosines.tolist(), strict=True):
            near = "  ".join(f"{phones[other]} {value:.2f}" for other, value in zip(others, values, strict=True))
            stream.write(f"{phone}\t{group}\t{near}\n")
    share = np.mean([groups[others[0]] == group for group, others in zip(groups, order.tolist(), strict=True)])
    chance = np.mean([(groups.count(group) - 1) / (len(groups) - 1) for group in groups])
    return float(share), float(chance)


def draw_embeddings(phones: Sequence[str], embeddings: np.ndarray, path: Path) -> None:
    """Draw the phones in the plane of their `embeddings` (n, E), coloured by group, as PNG."""
    groups, (places, shares) = groups_of(phones), plane(embeddings)
    figure, (axes,) = plots(1, 1, height=5.6)
    for group, color, marker in zip(GROUPS, COLORS, _MARKERS, strict=True):
        members = [index for index, each in enumerate(groups) if each == group]
        if members:
            axes.plot(*places[members].T, marker, color=color, label=group)
    for phone, group, place in zip(phones, groups, places, strict=True):
        color = COLORS[GROUPS.index(group)]
        axes.annotate(repr(phone) if phone.isspace() else phone, place, (4, 4), textcoords="offset points", color=color)
    axes.set(xlabel=f"{shares[0]:.0%} of the variance", ylabel=f"{shares[1]:.0%} of the variance")
    axes.legend(frameon=False, fontsize=9)
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=100, metadata={"Software": None})


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale the rows to length 1."""
    found: np.ndarray = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return found
