"""The articulation of IPA phones: groups by manner, ordered by place, as in the chart of the IPA (2020)."""

from __future__ import annotations

import unicodedata

# The rows of the chart, by manner. Within a row: from the lips to the glottis, voiceless before voiced.
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
    """The group of an IPA phone (one of MANNERS), and a key that sorts phones by manner, place and diacritics.

    The first letter decides, as in a diphthong. A plosive followed by a fricative is an affricate. A symbol that is not
    one IPA phone, such as silence, belongs to the group OTHER, which comes last.
    """
    decomposed = unicodedata.normalize("NFD", phone).replace("c\u0327", "ç")  # the letter ç, not a c with a diacritic
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
        return OTHER, (MANNERS.index(OTHER), 0, phone)  # a consonant and a vowel are two phones
    if len(consonants) > 1:
        second = _PLACES[consonants[1]]
        if manner == "plosives" and second[0].endswith("fricatives"):
            manner, place = "affricates", second[1]
        elif not _TIES.intersection(decomposed):
            return OTHER, (MANNERS.index(OTHER), 0, phone)
    return manner, (MANNERS.index(manner), place, phone)
