"""The articulation of IPA's phones: groups by manner, ordered by place, as in the chart of the IPA (2020)."""

from __future__ import annotations

import unicodedata

# Rows of the chart by manner; in a row from the lips to the glottis, voiceless before voiced.
_ROWS = {
    "plosives": "p b ʈ t d ɖ c ɟ k ɡ g q ɢ ʡ ʔ",
    "implosives": "ɓ ɗ ᶑ ʄ ɠ ʛ",
    "clicks": "ʘ ǀ ǃ ǂ ǁ",
    "nasals": "m ɱ n ɳ ɲ ŋ ɴ",
    "trills and taps": "ʙ r ʀ ⱱ ɾ ɽ",
    "affricates": "",
    "fricatives": "ɸ β f v θ ð s z ʃ ʒ ʂ ʐ ɕ ʑ ç ʝ x ɣ ɧ χ ʁ ħ ʕ ʜ ʢ h ɦ",
    "lateral fricatives": "ɬ ɮ ꞎ",
    "approximants": "ʋ ɹ ɻ j ɥ w ʍ ɰ",
    "laterals": "l ɫ ɺ ɭ ʎ ʟ",
    "close vowels": "i y ɨ ʉ ɯ u ɪ ʏ ʊ",
    "mid vowels": "e ø ɘ ɵ ɤ o ə ɚ ɛ œ ɜ ɝ ɞ ʌ ɔ",
    "open vowels": "æ ɐ a ɶ ɑ ɒ",
}
OTHER = "others"
MANNERS = (*_ROWS, OTHER)
_PLACES = {letter: (manner, place) for manner, row in _ROWS.items() for place, letter in enumerate(row.split())}
_TIES = {"\u0361", "\u035c"}


def articulation(phone: str) -> tuple[str, tuple[int, int, str]]:
    """The group of a phone written in IPA, one of MANNERS, and a key that sorts phones by manner, place and mark.

    The first letter counts, as of a diphthong; a plosive before a fricative is an affricate. What is not one phone in
    IPA, such as silence, is among the others, which come last.
    """
    decomposed = unicodedata.normalize("NFD", phone).replace("c\u0327", "ç")  # a letter, not a c with a mark
    letters = [letter for letter in decomposed if letter in _PLACES]
    is_written_in_ipa = (
        bool(letters)
        and decomposed[0] in _PLACES
        and not any(
            character.isalpha() and character not in _PLACES and unicodedata.category(character) != "Lm"
            for character in decomposed
        )
    )
    if not is_written_in_ipa:
        return OTHER, (MANNERS.index(OTHER), 0, phone)
    manner, place = _PLACES[letters[0]]
    consonants = [letter for letter in letters if not _PLACES[letter][0].endswith("vowels")]
    if len(letters) > 1 and len(consonants) < len(letters) and consonants:
        return OTHER, (MANNERS.index(OTHER), 0, phone)  # a consonant and a vowel are more than a phone
    if len(consonants) > 1:
        second = _PLACES[consonants[1]]
        if manner == "plosives" and second[0].endswith("fricatives"):
            manner, place = "affricates", second[1]
        elif not _TIES.intersection(decomposed):
            return OTHER, (MANNERS.index(OTHER), 0, phone)
    return manner, (MANNERS.index(manner), place, phone)
