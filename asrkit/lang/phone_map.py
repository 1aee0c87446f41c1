"""Folds phone inventories: maps the symbols of a finer inventory to those of a coarser one. Contains TIMIT's foldings.

TIMIT is transcribed in 61 symbols. Models use 61, 48 or 39 of them, and scoring uses 39.

Source: Lee and Hon, "Speaker-independent phone recognition using hidden Markov models", IEEE Trans. ASSP 37(11), 1989.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from asrkit.errors import DataError
from asrkit.findings import Findings
from asrkit.io.scp import scan_table, split_fields
from asrkit.lang.symbols import name_symbols
from asrkit.lang.tokens import TokenTable


@dataclass(frozen=True)
class PhoneMap:
    """Maps each symbol of an inventory to a phone of another inventory, or to None if the symbol is dropped.

    `name` describes the map in messages.
    """

    name: str
    table: Mapping[str, str | None] = field(repr=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """The symbols that the map contains, in the order of the table."""
        return tuple(self.table)

    @property
    def targets(self) -> tuple[str, ...]:
        """The symbols that folding can give, each once, in the order of the table."""
        return tuple(dict.fromkeys(phone for phone in self.table.values() if phone is not None))

    def unknown(self, phones: Iterable[str]) -> list[str]:
        """The symbols among `phones` that the map does not contain, sorted, each once."""
        return sorted({phone for phone in phones if phone not in self.table})

    def fold(self, phones: Iterable[str], where: str = "") -> tuple[str, ...]:
        """The phones of the coarser inventory for `phones`, in order, without the dropped ones.

        Equal neighbours are not merged.

        Raises DataError if the map does not contain some of the symbols. The message names them all, after `where`.
        """
        phones = tuple(phones)
        unknown = self.unknown(phones)
        if unknown:
            prefix = f"{where}: " if where else ""
            raise DataError(f"{prefix}not among the symbols of {self.name}: {name_symbols(unknown, self.table)}")
        folded = (self.table[phone] for phone in phones)
        return tuple(phone for phone in folded if phone is not None)

    def then(self, coarser: PhoneMap, name: str) -> PhoneMap:
        """The map that applies first this map and then `coarser`."""
        table = {phone: None if middle is None else coarser.table[middle] for phone, middle in self.table.items()}
        return PhoneMap(name, table)


@dataclass(frozen=True)
class FoldedTokens:
    """A token table for transcripts in another inventory. The symbols of `phone_map` are folded, others stay."""

    tokens: TokenTable
    phone_map: PhoneMap

    @property
    def phone_ids(self) -> Mapping[str, int | None]:
        """The id of each symbol that a transcript may contain; None if the symbol is dropped."""
        folded = {
            source: None if target is None else self.tokens.ids[target]
            for source, target in self.phone_map.table.items()
        }
        return {**self.tokens.phone_ids, **folded}


def read_phone_map(path: str | Path, tokens: TokenTable) -> PhoneMap:
    """Read a phone map from a file with lines `symbol phone`. A symbol without a phone is dropped.

    Raises DataError if the file is missing or is not such a table, or if a phone is not in `tokens`. The message has a
    line for each fault.
    """
    findings = Findings()
    table: dict[str, str | None] = {}
    for line, symbol, value in scan_table(path, findings, empty_ok=True):
        phones = split_fields(value)
        if len(phones) > 1:
            findings.error(f"{symbol}: expected one phone, found {value}", path, line)
        elif unknown := [phone for phone in phones if phone not in tokens]:
            phones_of = " ".join(tokens.phones)
            named = name_symbols(unknown, tokens.phones)
            findings.error(f"{symbol}: {named} is not a phone of the model; its phones are {phones_of}", path, line)
        table[symbol] = phones[0] if phones else None
    findings.raise_errors()
    return PhoneMap(str(path), table)


def _groups(name: str, phones: Iterable[str], groups: Mapping[str, str], dropped: str = "") -> PhoneMap:
    """A map of `phones`: the members of each group become its key, `dropped` symbols vanish, and the others stay."""
    table: dict[str, str | None] = {phone: phone for phone in phones}
    for target, members in groups.items():
        table |= dict.fromkeys(members.split(), target)
    table |= dict.fromkeys(dropped.split())
    return PhoneMap(name, table)


# By manner of articulation: stops, their closures, affricates, fricatives, nasals, liquids and glides, vowels, silence.
_BY_MANNER = """
    b d g p t k dx q
    bcl dcl gcl pcl tcl kcl
    jh ch
    s sh z zh f th v dh
    m n ng em en eng nx
    l r w y hh hv el
    iy ih eh ey ae aa aw ay ah ao oy ow uh uw ux er ax ix axr ax-h
    pau epi h#
"""
TIMIT_61 = tuple(_BY_MANNER.split())

# The glottal stop q is dropped before the folding, so its neighbours become adjacent.
TIMIT_61_TO_48 = _groups(
    "TIMIT's 61 to 48 phones",
    TIMIT_61,
    {
        "cl": "pcl tcl kcl",
        "vcl": "bcl dcl gcl",
        "sil": "h# pau",
        "m": "em",
        "n": "nx",
        "ng": "eng",
        "hh": "hv",
        "uw": "ux",
        "er": "axr",
        "ax": "ax-h",
    },
    dropped="q",
)
TIMIT_48 = TIMIT_61_TO_48.targets

TIMIT_48_TO_39 = _groups(
    "TIMIT's 48 to 39 phones",
    TIMIT_48,
    {"sil": "cl vcl epi", "l": "el", "n": "en", "sh": "zh", "aa": "ao", "ih": "ix", "ah": "ax"},
)
TIMIT_39 = TIMIT_48_TO_39.targets

TIMIT_61_TO_39 = TIMIT_61_TO_48.then(TIMIT_48_TO_39, "TIMIT's 61 to 39 phones")

# A symbol that several inventories have is the same phone in all, so one map fits transcripts in any of the three.
TIMIT_TO_39 = PhoneMap(
    "TIMIT's 61, 48 or 39 phones",
    {**TIMIT_61_TO_39.table, **TIMIT_48_TO_39.table, **{phone: phone for phone in TIMIT_39}},
)
