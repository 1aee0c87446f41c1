"""Converts the phone symbols of corpora to the International Phonetic Alphabet (IPA)."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping

from asrkit.errors import DataError
from asrkit.lang.symbols import name_symbols

# FarsDat's phonemes. The mini corpus uses the same.
FARSDAT = {
    **{"a": "æ", "e": "e", "o": "o", "A": "ɒ", "i": "i", "u": "u"},
    **{"p": "p", "b": "b", "t": "t", "d": "d", "k": "k", "g": "ɡ", "q": "ɢ", ",": "t͡ʃ", "'": "d͡ʒ", "]": "ʔ"},
    **{"f": "f", "v": "v", "s": "s", "z": "z", "S": "ʃ", "Z": "ʒ", "x": "x", "h": "h"},
    **{"m": "m", "n": "n", "l": "l", "r": "ɾ", "y": "j"},
}

_VOWELS = {
    **{"iy": "i", "ih": "ɪ", "eh": "ɛ", "ey": "eɪ", "ae": "æ", "aa": "ɑ", "aw": "aʊ", "ay": "aɪ", "ah": "ʌ"},
    **{"ao": "ɔ", "oy": "ɔɪ", "ow": "oʊ", "uh": "ʊ", "uw": "u", "ux": "ʉ", "er": "ɝ", "ax": "ə", "ix": "ɨ"},
    **{"axr": "ɚ", "ax-h": "ə̥"},
}
# TIMIT's phones. IPA has no symbols for silence, and for the closure of an unspecified stop (cl, vcl).
ARPABET = {
    **_VOWELS,
    **{"b": "b", "d": "d", "g": "ɡ", "p": "p", "t": "t", "k": "k", "dx": "ɾ", "q": "ʔ", "jh": "d͡ʒ", "ch": "t͡ʃ"},
    **{"bcl": "b̚", "dcl": "d̚", "gcl": "ɡ̚", "pcl": "p̚", "tcl": "t̚", "kcl": "k̚"},
    **{"s": "s", "sh": "ʃ", "z": "z", "zh": "ʒ", "f": "f", "th": "θ", "v": "v", "dh": "ð", "hh": "h", "hv": "ɦ"},
    **{"m": "m", "n": "n", "ng": "ŋ", "em": "m̩", "en": "n̩", "eng": "ŋ̍", "nx": "ɾ̃"},
    **{"l": "l", "r": "ɹ", "w": "w", "y": "j", "el": "l̩"},
}
# In capitals. Vowels may have CMU's digit for stress. An unstressed AH or ER is a schwa.
_CMU = {
    **{phone.upper(): ipa for phone, ipa in ARPABET.items()},
    **{f"{phone.upper()}{stress}": ipa for phone, ipa in _VOWELS.items() for stress in "012"},
    **{"AH0": "ə", "ER0": "ɚ"},
}
# FarsDat also has symbols for the palatal allophones of two stops.
_TABLES = ({**FARSDAT, "c": "c", ";": "ɟ"}, ARPABET, _CMU)


# Unicode's blocks for phonetics; then the letters that IPA takes from other alphabets and from ASCII.
_PHONETIC_BLOCKS = (
    *((0x0250, 0x02FF), (0x1D00, 0x1DBF), (0xA700, 0xA71F)),  # IPA extensions, modifiers; phonetic extensions; tones
    *((0x01C0, 0x01C3), (0x2071, 0x2094)),  # clicks; superscripts and subscripts
)
_OTHER_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz" "æðøœŋħßıƥƭƙɫ" "βθχλ" "ⱱꭓꞵꞎ" ".:|‖‿")  # fmt: skip


def ipa_table(phones: Iterable[str]) -> Mapping[str, str]:
    """The table from phone symbols to IPA. Of the tables for FarsDat, TIMIT and CMU, the one that fits `phones` best.

    It may lack some phones, such as silence. These remain unchanged. The table is empty if the phones are IPA already.

    Raises DataError if the table lacks more than half of the phones.
    """
    phones = set(phones)
    if _are_ipa(phones):
        return {}
    table = max(_TABLES, key=lambda table: len(phones & table.keys()))
    unknown = sorted(phones - table.keys())
    if 2 * len(unknown) > len(phones):
        raise DataError(
            f"no table to IPA for these phones: {name_symbols(unknown)}; they are not IPA, and there are tables for "
            "FarsDat's symbols and ARPAbet"
        )
    return table


def _are_ipa(phones: Collection[str]) -> bool:
    """Whether symbols are IPA. FarsDat has capitals and punctuation, and most ARPAbet symbols are pairs of letters."""
    num_arpabet = sum(len(phone) > 1 and phone in ARPABET for phone in phones)
    return bool(phones) and all(map(_is_ipa, phones)) and 2 * num_arpabet <= len(phones)


def _is_ipa(phone: str) -> bool:
    return all(
        character in _OTHER_LETTERS
        or unicodedata.category(character) in ("Mn", "Lm")
        or any(first <= ord(character) <= last for first, last in _PHONETIC_BLOCKS)
        for character in unicodedata.normalize("NFD", phone)
    )
