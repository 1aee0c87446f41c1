"""Phones of IPA by manner and place of articulation."""

import pytest

from asrkit.lang.articulation import MANNERS, OTHER, articulation
from asrkit.lang.ipa import ARPABET, FARSDAT


@pytest.mark.parametrize(
    ("phone", "manner"),
    [
        *(("p", "plosives"), ("kʰ", "plosives"), ("b̚", "plosives"), ("ʔ", "plosives"), ("ɡ", "plosives")),
        *(("m̩", "nasals"), ("ŋ", "nasals"), ("ɾ", "trills and taps"), ("ɾ̃", "trills and taps")),
        *(
            ("t͡ʃ", "affricates"),
            ("dʒ", "affricates"),
            ("ç", "fricatives"),
            ("c\u0327", "fricatives"),
            ("h", "fricatives"),
        ),
        *(("ɹ", "approximants"), ("l", "laterals"), ("i", "close vowels"), ("ɪ", "close vowels")),
        *(("eɪ", "mid vowels"), ("ə̥", "mid vowels"), ("a", "open vowels"), ("ã", "open vowels"), ("aɪ", "open vowels")),
        *(
            ("sil", OTHER),
            ("pa", OTHER),
            ("xx", OTHER),
            ("k͡p", "plosives"),
            ("سلام", OTHER),
            ("'", OTHER),
            ("", OTHER),
            ("ˈa", OTHER),
        ),
    ],
)
def test_a_phone_has_its_manner(phone, manner):
    assert articulation(phone)[0] == manner


def test_the_phones_of_the_tables_are_all_known():
    assert not [phone for table in (FARSDAT, ARPABET) for phone in table.values() if articulation(phone)[0] == OTHER]


def test_phones_are_in_order_of_manner_then_place_and_unknown_ones_come_last():
    phones = ["sil", "ɒ", "i", "u", "ʃ", "f", "x", "n", "m", "k", "t", "p", "ɡ", "d", "b"]
    in_order = sorted(phones, key=lambda phone: articulation(phone)[1])
    assert in_order == ["p", "b", "t", "d", "k", "ɡ", "m", "n", "f", "ʃ", "x", "i", "u", "ɒ", "sil"]
    assert [MANNERS.index(articulation(phone)[0]) for phone in in_order] == sorted(
        MANNERS.index(articulation(phone)[0]) for phone in phones
    )
