"""Symbols that are not what they seem: composed in two ways, drawn alike, or with characters that nobody sees."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrkit.lang.ipa import ARPABET, FARSDAT
from asrkit.lang.phone_map import TIMIT_61
from asrkit.lang.symbols import name_symbols, symbol_fault, symbol_warnings

IPA = (
    "m n ŋ ɳ ɲ ɴ r ʀ ʙ ɾ ɽ ⱱ ɸ β f v θ ð s z ʃ ʒ ʂ ʐ ç ʝ x ɣ χ ʁ ħ ʕ h ɦ ɬ ɮ ʋ ɹ ɻ j ɰ l ɭ ʎ ʟ p b t d ʈ ɖ c ɟ k ɡ q ɢ",
    "ʔ ʘ ǀ ǃ ǂ ǁ ɓ ɗ ʄ ɠ ʛ pʼ tʼ kʼ sʼ ʍ w ɥ ʜ ʢ ʡ ɕ ʑ ɺ ɧ i y ɨ ʉ ɯ u ɪ ʏ ʊ e ø ɘ ɵ ɤ o ə ɛ œ ɜ ɞ ʌ ɔ æ ɐ a ɶ ɑ ɒ ɚ ɝ",
    "aː aˑ ă a̯ ã t͡s d͡z t͜s e˞ l̩ n̥ tʰ tʲ tʷ tˠ tˤ ˥ ˩˥",
)


def test_the_symbols_of_the_ipa_and_of_the_corpora_do_not_look_alike():
    for inventory in (" ".join(IPA).split(), FARSDAT, FARSDAT.values(), ARPABET, ARPABET.values(), TIMIT_61):
        assert symbol_warnings({"": inventory}) == []


def test_composed_and_decomposed_are_named_with_their_files():
    assert symbol_warnings({"ref": ["s", "ã"], "hyp": ["s", "a\u0303"]}) == [
        "phones that look alike but are composed differently (a\u0303): U+0061 U+0303 in hyp, U+00E3 in ref; use "
        "one of them everywhere"
    ]
    assert symbol_warnings({"ref": ["ã", "a\u0303"], "hyp": ["ã"]}) == [
        "phones that look alike but are composed differently (a\u0303): U+0061 U+0303 in ref, U+00E3 in ref and hyp; "
        "use one of them everywhere"
    ]
    assert symbol_warnings({"ref": ["ã", "s"], "hyp": ["ã", "x"]}) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("g", "ɡ"),  # IPA's g
        ("ə", "ǝ"),
        ("ɛ", "ε"),  # Greek
        ("ɣ", "γ"),
        ("aː", "a:"),
        ("kʼ", "k'"),
        ("k’", "k'"),
        ("a", "а"),  # Cyrillic
        ("ی", "ي"),  # Persian and Arabic
        ("a\u0325\u0303", "ḁ\u0303"),
        ("a\u0303\u0325", "ḁ\u0303"),  # marks in another order
    ],
)
def test_characters_that_are_drawn_alike(a, b):
    assert a != b
    (warning,) = symbol_warnings({"ref": [a], "hyp": [b]})
    how = "composed differently" if unicodedata.normalize("NFC", a) == unicodedata.normalize("NFC", b) else "of differ"
    assert f"phones that look alike but are {how}" in warning
    for symbol in (a, b):
        assert " ".join(f"U+{ord(character):04X}" for character in symbol) in warning


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u200b", "U+200B (ZERO WIDTH SPACE)"),
        ("\u200c", "U+200C (ZERO WIDTH NON-JOINER)"),
        ("\u200d", "U+200D (ZERO WIDTH JOINER)"),
        ("\u200f", "U+200F (RIGHT-TO-LEFT MARK)"),
        ("\u2060", "U+2060 (WORD JOINER)"),
        ("\ufeff", "U+FEFF (ZERO WIDTH NO-BREAK SPACE)"),
        ("\u00ad", "U+00AD (SOFT HYPHEN)"),
        ("\u00a0", "U+00A0 (NO-BREAK SPACE)"),
        ("\u034f", "U+034F (COMBINING GRAPHEME JOINER)"),
        ("\ufe0f", "U+FE0F (VARIATION SELECTOR-16)"),
        ("\x00", "U+0000 (a control character)"),
        ("\x7f", "U+007F (a control character)"),
    ],
)
def test_characters_that_cannot_be_seen_are_named(character, name):
    for symbol in (f"a{character}", f"{character}a", character):
        (warning,) = symbol_warnings({"text": [symbol, "b"]})
        assert warning.startswith(f"{name}, which cannot be seen, is in the phone U+")
    pair = symbol_warnings({"ref": ["a"], "hyp": [f"a{character}"]})
    assert len(pair) == 2 and pair[0].startswith("phones that look alike")


def test_many_are_shortened():
    letters = "abcdefghijklmnop"
    warnings = symbol_warnings({"x": [*letters, *(letter + "\u200b" for letter in letters)]})
    assert len(warnings) == 12
    assert warnings[10] == "and 6 more of this kind"
    assert warnings[11].endswith("is in 16 phones, such as U+0061 U+200B; remove it")


def test_what_a_message_says_of_unknown_phones():
    assert name_symbols(["x", "ʃ"], ["s"]) == "x ʃ"
    assert name_symbols(["ã"], ["s", "a\u0303"]) == "ã (U+00E3, which looks like a\u0303, U+0061 U+0303)"
    assert name_symbols(["a\u200b", "x"]) == "a\u200b (U+0061 U+200B) x"


@given(st.lists(st.text(st.characters(categories=["Ll", "Lo", "Mn"]), min_size=1, max_size=4), max_size=8))
def test_whatever_is_canonically_equivalent_is_warned_of_and_nothing_is_changed(symbols):
    both = [form for symbol in symbols for form in (unicodedata.normalize(f, symbol) for f in ("NFC", "NFD"))]
    differing = {symbol for symbol in symbols if len({unicodedata.normalize(f, symbol) for f in ("NFC", "NFD")}) > 1}
    assert bool(symbol_warnings({"": both})) >= bool(differing)


def test_symbols_that_cannot_be():
    assert symbol_fault("ʃ") is None
    assert "white space (U+00A0)" in symbol_fault("a\u00a0b")
    assert "reserved" in symbol_fault("<blk>")
    for symbol in ("\x1b[2J", "a\0", "\x7f", "\x9b31m", "\ud800"):
        assert "control character" in symbol_fault(symbol)
    assert "empty" in symbol_fault("")
