"""Where embeddings lie."""

import numpy as np
import pytest

from asrkit.reporting.embeddings import GROUPS, draw_embeddings, groups_of, nearest, plane, write_neighbours


def test_neighbours_are_those_of_the_highest_cosine():
    embeddings = np.random.default_rng(0).normal(size=(7, 4))
    order, cosines = nearest(embeddings, 2)
    for row, vector in enumerate(embeddings):
        expected = {
            other: vector @ embeddings[other] / np.linalg.norm(vector) / np.linalg.norm(embeddings[other])
            for other in range(7)
            if other != row
        }
        best = sorted(expected, key=lambda other: -expected[other])[:2]
        assert order[row].tolist() == best
        assert cosines[row].tolist() == pytest.approx([expected[other] for other in best])


def test_the_plane_holds_most_of_the_variance():
    """Its directions are the first eigenvectors of the covariance."""
    embeddings = np.random.default_rng(1).normal(size=(30, 5)) * [5, 3, 1, 1, 1]
    places, shares = plane(embeddings)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(np.cov(unit.T, bias=True))[::-1]
    assert shares.tolist() == pytest.approx((values[:2] / values.sum()).tolist())
    assert places.var(axis=0).tolist() == pytest.approx(values[:2].tolist())
    assert places[:, 0] @ places[:, 1] == pytest.approx(0, abs=1e-9)


def test_groups():
    assert groups_of(["AA", "P", "CH", "S", "M", "L", "sil"]) == list(GROUPS)
    assert groups_of(["a", "p", "ʃ", " ", "1"]) == ["vowels", "stops", "fricatives", "others", "others"]


def test_files(tmp_path):
    embeddings = np.array([[1, 0, 0.1], [1, 0, 0], [0, 1, 0], [0.2, 1, 0.0]])
    assert write_neighbours(["AA", "IY", "P", "S"], embeddings, tmp_path / "x.txt") == (0.5, pytest.approx(1 / 6))
    rows = [line.split("\t") for line in (tmp_path / "x.txt").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["AA", "vowels"], ["IY", "vowels"], ["P", "stops"], ["S", "fricatives"]]
    assert rows[0][2].startswith("IY 1.00  S 0.2")
    draw_embeddings(["AA", "IY", "P", "S"], embeddings, tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
