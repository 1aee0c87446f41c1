import unicodedata

import pytest

from asrkit.corpora.persian import PHONES
from asrkit.errors import DataError
from asrkit.lang.ipa import ARPABET, FARSDAT, ipa_table
from asrkit.lang.phone_map import TIMIT_39, TIMIT_48, TIMIT_61

CMU = tuple(phone.upper() for phone in {*TIMIT_39, "ao", "zh"} - {"sil", "dx"})
SILENCES = {"h#", "pau", "epi", "sil", "cl", "vcl"}


@pytest.mark.parametrize("inventory", [PHONES, TIMIT_61, TIMIT_48, TIMIT_39, CMU])
def test_every_sound_of_the_corpora_has_one_symbol(inventory):
    table = ipa_table(inventory)
    assert set(inventory) - table.keys() <= SILENCES
    found = [table[phone] for phone in inventory if phone in table]
    assert len(set(found)) == len(found)


def test_the_tables_are_told_apart():
    assert ipa_table(PHONES)["a"] == "æ"
    assert ipa_table(TIMIT_61)["y"] == ipa_table(["Y", "AA1", "AA"])["Y"] == "j"
    assert (ipa_table(["AH0", "AH1", "AH2", "ER0"])["AH0"], ipa_table(["AH", "B"])["AH"]) == ("ə", "ʌ")
    assert "A" not in ipa_table(CMU)
    assert ipa_table(["A", "a", "x1"])["a"] == "æ"  # half may be unknown
    assert ipa_table(["A", "a", "b", "ʔ"])["a"] == "æ"  # IPA's letter among FarsDat's symbols
    assert ipa_table(["aa", "iy", "sh", "ʔ"])["aa"] == "ɑ"


@pytest.mark.parametrize(
    "phones",
    [
        FARSDAT.values(),
        ARPABET.values(),
        ["a", "e", "i", "o", "u", "p", "t", "k", "m", "n", "s", "l"],  # all of them FarsDat's symbols, too
        ["a", "aː", "ã", "b", "d͡ʒ", "tʰ", "kʷ", "pʼ", "ŋ̊", "ɡ͡b", "˥˩", "ç", "n̩", "ǃ", "ⁿd", "aw", "ay"],
        ["ɬ", "ɮ", "β", "θ", "χ", "ɚ", "ɫ", "tɕʰ", "ʔ"],
        ["ts", "kp", "s"],
    ],
)
def test_phones_that_are_ipa_already_pass_as_they_are(phones):
    assert ipa_table(phones) == {}


def test_symbols_are_letters_and_marks_of_the_ipa():
    """No ASCII look-alike of a letter that IPA writes otherwise; what is composed is composed of known letters."""
    for symbol in {*FARSDAT.values(), *ARPABET.values()}:
        assert not set(symbol) & set("gS:'!ACZ")
        assert unicodedata.normalize("NFD", symbol) == symbol
        for character in symbol:
            assert unicodedata.category(character) in ("Ll", "Lo", "Mn"), symbol


def test_unknown_inventories_are_refused():
    with pytest.raises(DataError, match="no table to IPA for these phones: # ɬ; "):
        ipa_table(["a", "ɬ", "#"])
    with pytest.raises(
        DataError, match="no table to IPA for these phones: ب ش; they are not IPA, and there are tables"
    ):
        ipa_table(["ش", "ب"])
