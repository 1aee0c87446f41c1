"""Phones on the page: each is one character, so an alignment is two strings of the same length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from asrkit.errors import DataError
from asrkit.lang.articulation import MANNERS, articulation
from asrkit.lang.ipa import ipa_table
from asrkit.scoring.align import Pair

GAP = " "  # the missing side of an insertion or a deletion
FIRST = 0xA1  # the character of the first phone; before it are white space, controls, and characters that JSON escapes
_MOST = 0xD800 - FIRST - 1


class Symbols:
    """Gives phones numbers and characters, in the order in which they first occur."""

    def __init__(self, phones: Iterable[str] = ()) -> None:
        self._chars: dict[str | None, str] = {None: GAP}
        for phone in phones:
            self.char(phone)

    def char(self, phone: str | None) -> str:
        """The character of a phone. A new phone gets one. None gives GAP.

        Raises:
            DataError: there are too many different phones.
        """
        char = self._chars.get(phone)
        if char is None:
            if len(self._chars) > _MOST:
                raise DataError(f"more than {_MOST} different phones; the page can show at most that many")
            char = self._chars[phone] = chr(FIRST + len(self._chars) - 1)
        return char

    def string(self, phones: Iterable[str | None]) -> str:
        """The characters of `phones` as a string. Raises DataError as `char`."""
        known = self._chars
        try:
            return "".join([known[phone] for phone in phones])
        except KeyError:
            return "".join(map(self.char, phones))

    def alignment(self, pairs: Sequence[Pair]) -> tuple[str, str]:
        """Reference and hypothesis of an alignment, as two strings of the same length. Raises DataError as `char`."""
        return self.string([ref for ref, _ in pairs]), self.string([hyp for _, hyp in pairs])

    def rows(self) -> list[dict[str, Any]]:
        """All phones in the order of their numbers: symbol, IPA where known, manner of articulation, and rank by that
        manner.
        """
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
