"""TIMIT's foldings against the given table, and by properties that a wrong entry breaks."""

import pytest

from asrkit.errors import DataError
from asrkit.lang.phone_map import (
    TIMIT_39,
    TIMIT_48,
    TIMIT_48_TO_39,
    TIMIT_61,
    TIMIT_61_TO_39,
    TIMIT_61_TO_48,
    TIMIT_TO_39,
    FoldedTokens,
    PhoneMap,
    read_phone_map,
)
from asrkit.lang.tokens import TokenTable
from tests.shared import shared_or_skip


def test_sizes():
    assert (len(TIMIT_61), len(TIMIT_48), len(TIMIT_39)) == (61, 48, 39)
    assert len(set(TIMIT_61)) == 61
    assert (TIMIT_61_TO_48.sources, TIMIT_48_TO_39.sources, TIMIT_61_TO_39.sources) == (TIMIT_61, TIMIT_48, TIMIT_61)
    assert set(TIMIT_61_TO_39.targets) == set(TIMIT_39)


def test_folding_a_sentence():
    in_61 = "h# q ix tcl t el axr dcl pau zh epi em h#"
    in_48 = "sil ix cl t el er vcl sil zh epi m sil"
    in_39 = "sil ih sil t l er sil sil sh sil m sil"
    assert " ".join(TIMIT_61_TO_48.fold(in_61.split())) == in_48
    assert " ".join(TIMIT_48_TO_39.fold(in_48.split())) == in_39
    assert " ".join(TIMIT_61_TO_39.fold(in_61.split())) == in_39
    assert TIMIT_61_TO_39.fold(["q"]) == TIMIT_61_TO_39.fold([]) == ()


def test_any_inventory_folds_to_39():
    phones = TIMIT_61
    assert TIMIT_TO_39.fold(phones) == TIMIT_61_TO_39.fold(phones)
    assert TIMIT_TO_39.fold(TIMIT_61_TO_48.fold(phones)) == TIMIT_61_TO_39.fold(phones)
    assert TIMIT_TO_39.fold(TIMIT_61_TO_39.fold(phones)) == TIMIT_61_TO_39.fold(phones)


def test_no_symbol_means_two_things():
    maps = [TIMIT_61_TO_39.table, TIMIT_48_TO_39.table, {phone: phone for phone in TIMIT_39}]
    for phone in {phone for table in maps for phone in table}:
        assert len({table[phone] for table in maps if phone in table}) == 1, phone


def test_unknown_symbols_are_all_named():
    with pytest.raises(DataError) as error:
        TIMIT_61_TO_39.fold(["cl", "a", "aa", "cl"], where="text: utterance u1")
    assert str(error.value) == "text: utterance u1: not among the symbols of TIMIT's 61 to 39 phones: a cl"
    assert PhoneMap("two", {"ɪ̈": "ɪ", "'": None}).fold(["'", "ɪ̈"]) == ("ɪ",)


def test_agrees_with_the_given_table():
    path = shared_or_skip("data/timit/phones-61-48-39.tsv")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = [[None if phone == "-" else phone for phone in row] for row in rows]
    assert {finest: middle for finest, middle, _ in rows} == dict(TIMIT_61_TO_48.table)
    assert {finest: coarsest for finest, _, coarsest in rows} == dict(TIMIT_61_TO_39.table)
    assert {middle: coarsest for _, middle, coarsest in rows if middle} == dict(TIMIT_48_TO_39.table)


def test_a_map_from_a_file(tmp_path):
    path, tokens = tmp_path / "map", TokenTable(["AA", "S"])
    path.write_text("ɑ AA\nS AA\nsil\n")
    phone_map = read_phone_map(path, tokens)
    assert phone_map.table == {"ɑ": "AA", "S": "AA", "sil": None}
    assert FoldedTokens(tokens, phone_map).phone_ids == {"AA": 1, "S": 1, "ɑ": 1, "sil": None}
    path.write_text("ɑ AA\nʃ SH\nsil\nx S S\nx S\n")
    with pytest.raises(DataError) as raised:
        read_phone_map(path, tokens)
    assert str(raised.value).split("\n") == [
        f"{path}:2: ʃ: SH is not a phone of the model; its phones are AA S",
        f"{path}:4: x: expected one phone, found S S",
        f"{path}:5: x a second time (first in line 4); remove one of them",
    ]
