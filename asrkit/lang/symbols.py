"""Checks phone symbols. Finds forbidden symbols, different symbols that look alike, and invisible characters.

Symbols are never normalised. All code that reads symbols from a file or compares symbols of two files uses this module.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from asrkit.errors import name_some

_RESERVED = ("<blk>", "<s>", "</s>", "<unk>")
_SPACE = re.compile(r"\s")
# Invisible characters outside Unicode's category of format characters (Cf): joiners, variation selectors, fillers.
_SHAPELESS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_UNSEEN_CATEGORIES = ("Cc", "Cf", "Zs", "Zl", "Zp")
# Characters that transcriptions mix up, because they look alike: letters of IPA and of Latin, Greek, Cyrillic and
# Arabic keyboards; length marks and colons; marks of ejectives and apostrophes; clicks and punctuation.
_ALIKE = str.maketrans(
    "\u0261\u01ddαεγιυφꞵꭓ" "ː꞉" "ʼ’ʹ" "ǀǃ" "аеорсхіјѕһуәзө" "يك",
    "gəɑɛɣɩʋɸβχ" "::" "'''" "|!" "aeopcxijshyəɜɵ" "یک",
)  # fmt: skip
_MOST_NAMED = 10  # number of warnings of one kind


def symbol_fault(symbol: str) -> str | None:
    """The fault of a phone symbol, or None if it is valid.

    A symbol may be any text without white space and control characters, except the reserved ones, such as `<blk>`.
    """
    if not symbol:
        return "an empty symbol; give the phone or remove the interval"
    if space := _SPACE.search(symbol):
        return (
            f"the symbol {symbol!r} holds white space (U+{ord(space[0]):04X}); expected one phone, or plain blanks "
            "between phones"
        )
    if holds_control(symbol):
        return f"the symbol {symbol!r} holds a control character; write the phone without it"
    if symbol in _RESERVED:
        return f"the symbol {symbol} is reserved; use another symbol for the phone"
    return None


def holds_control(symbol: str) -> bool:
    """Whether a symbol contains a control character, or half of a surrogate pair."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in symbol)


def symbol_warnings(symbols: Mapping[str, Iterable[str]]) -> list[str]:
    """Warnings: one for each group of different symbols that look alike, and one for each invisible character.

    `symbols` maps the name of each source (for example a file) to its symbols. The warnings name the sources if there
    are several.
    """
    sources: dict[str, list[str]] = defaultdict(list)
    for source, of_source in symbols.items():
        for symbol in dict.fromkeys(of_source):
            sources[symbol].append(source)
    names = {
        symbol: code_points(symbol) + (f" in {' and '.join(where)}" if len(symbols) > 1 else "")
        for symbol, where in sources.items()
    }
    return _alike_warnings(names) + _unseen_warnings(names)


def _alike_warnings(names: Mapping[str, str]) -> list[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for symbol in sorted(names):
        groups[_look(symbol)].append(symbol)
    warnings = []
    for group in sorted(group for group in groups.values() if len(group) > 1):
        composed = {unicodedata.normalize("NFC", _seen(symbol)) for symbol in group}
        how = "are composed differently" if len(composed) == 1 else "are of different characters"
        written = ", ".join(names[symbol] for symbol in group)
        warnings.append(f"phones that look alike but {how} ({group[0]}): {written}; use one of them everywhere")
    return _shortened(warnings)


def _unseen_warnings(names: Mapping[str, str]) -> list[str]:
    with_character: dict[str, list[str]] = defaultdict(list)
    for symbol in sorted(names):
        for character in dict.fromkeys(filter(_is_unseen, symbol)):
            with_character[character].append(symbol)
    warnings = []
    for character, group in sorted(with_character.items()):
        name = unicodedata.name(character, "a control character")
        which = f"{len(group)} phones, such as " if len(group) > 1 else "the phone "
        warnings.append(
            f"U+{ord(character):04X} ({name}), which cannot be seen, is in {which}{names[group[0]]}; remove it"
        )
    return _shortened(warnings)


def _shortened(warnings: list[str]) -> list[str]:
    if len(warnings) <= _MOST_NAMED:
        return warnings
    return [*warnings[:_MOST_NAMED], f"and {len(warnings) - _MOST_NAMED} more of this kind"]


def name_symbols(symbols: Iterable[str], known: Iterable[str] = ()) -> str:
    """The text for a message that names `symbols`, which are not among the `known` ones.

    Code points are added to a symbol that looks like a known one or contains invisible characters.
    """
    known_by_look = {_look(symbol): symbol for symbol in known}
    names = []
    for symbol in symbols:
        other = known_by_look.get(_look(symbol))
        if other is not None:
            names.append(f"{symbol} ({code_points(symbol)}, which looks like {other}, {code_points(other)})")
        elif any(map(_is_unseen, symbol)):
            names.append(f"{symbol} ({code_points(symbol)})")
        else:
            names.append(symbol)
    return name_some(names)


def code_points(symbol: str) -> str:
    """The code points of a symbol, such as `U+0061 U+0303`."""
    return " ".join(f"U+{ord(character):04X}" for character in symbol)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN_CATEGORIES or _SHAPELESS.match(character) is not None


def _seen(symbol: str) -> str:
    return "".join(character for character in symbol if not _is_unseen(character))


def _look(symbol: str) -> str:
    """A form of the symbol that is equal for symbols that look alike."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", _seen(symbol)).translate(_ALIKE))
