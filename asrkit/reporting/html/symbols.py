"""Phones as the page has them: a character for each, so that an alignment is two strings of one length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from asrkit.errors import DataError
from asrkit.lang.articulation import MANNERS, articulation
from asrkit.lang.ipa import ipa_table
from asrkit.scoring.align import Pair

GAP = " "  # on the side that an insertion or deletion lacks
FIRST = 0xA1  # the character of the first phone; those before it are blanks, controls, and what JSON would escape
_MOST = 0xD800 - FIRST - 1


class Symbols:
    """Numbers of phones, in the order in which they come first, and their characters."""

    def __init__(self, phones: Iterable[str] = ()) -> None:
        self._chars: dict[str | None, str] = {None: GAP}
        for phone in phones:
            self.char(phone)

    def char(self, phone: str | None) -> str:
        """The character of a phone, which gets one if need be; GAP for None."""
        char = self._chars.get(phone)
        if char is None:
            if len(self._chars) > _MOST:
                raise DataError(f"more than {_MOST} different phones; the page can show at most that many")
            char = self._chars[phone] = chr(FIRST + len(self._chars) - 1)
        return char

    def string(self, phones: Iterable[str | None]) -> str:
        """The characters of phones, in a row."""
        known = self._chars
        try:
            return "".join([known[phone] for phone in phones])
        except KeyError:
            return "".join(map(self.char, phones))

    def alignment(self, pairs: Sequence[Pair]) -> tuple[str, str]:
        """Reference and hypothesis of an alignment."""
        return self.string([ref for ref, _ in pairs]), self.string([hyp for _, hyp in pairs])

    def rows(self) -> list[dict[str, Any]]:
        """All phones by number: the symbol, IPA where a table has it, manner of articulation, and rank by that."""
        phones = [phone for phone in self._chars if phone is not None]
        try:
            table = ipa_table(phones) if phones else {}
        except DataError:
            table = {}
        manners = {phone: articulation(table.get(phone, phone)) for phone in phones}
        ranks = {phone: rank for rank, phone in enumerate(sorted(phones, key=lambda phone: (manners[phone][1], phone)))}
        return [
            {
                "symbol": phone,
                "ipa": table.get(phone, phone),
                "manner": MANNERS.index(manners[phone][0]),
                "rank": ranks[phone],
            }
            for phone in phones
        ]
