"""Chooses the speakers of dev and test: from lists, or at random so that the same names always give the same sets."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asrkit.errors import ConfigError, location
from asrkit.findings import Findings
from asrkit.io.numbers import parse_number
from asrkit.io.text import read_text

DEFAULT_SHARE = 0.1  # of the speakers, for each of dev and test
_HINTED = 10  # number of unknown speakers for which the message suggests a similar name
_LONGEST_HINTED = 100  # characters in such a name, because comparing takes more than quadratic time


@dataclass(frozen=True)
class Units:
    """The units that a split distributes: speakers, or utterances if there are too few speakers.

    Attributes:
        what: what the units are, for messages.
        names: the names of the units.
        source: the file or directory in which they are.
    """

    what: str
    names: set[str]
    source: Path

    def too_few_for(self, wanted: Mapping[str, str | None]) -> bool:
        """Whether train would get no unit if each set of `wanted` with a share gets at least one unit."""
        num_sets = sum(_share(text) != 0 for text in wanted.values())
        return not any(map(is_list, wanted.values())) and 0 < num_sets >= len(self.names)

    def hold_out(self, wanted: Mapping[str, str | None], *, known: set[str]) -> dict[str, set[str]]:
        """Choose the units for each set of `wanted`. The other units stay in train.

        Args:
            wanted: set -> a share (`0.1`, `10%`, 0 for none), the path of a file with one name per line, or names
                separated by commas. None means DEFAULT_SHARE. Lists are processed before shares, in the given order. So
                a set does not depend on the shares of the sets after it.
            known: all speakers, including those of other sets, for messages.

        Raises ConfigError if a speaker is unknown or already in another set, or if no unit is left for train. The
        message has a line for each fault.
        """
        free = set(self.names)
        held_out: dict[str, set[str]] = {}
        findings = Findings()
        for name in sorted(wanted, key=lambda name: not is_list(wanted[name])):
            if is_list(wanted[name]):
                chosen = _listed(name, wanted[name] or "", free, known, findings)
            else:
                share = _share(wanted[name])
                number = max(1, round(share * len(self.names))) if share else 0
                chosen = set(sorted(free, key=_draw)[:number])
            held_out[name] = chosen
            free -= chosen
        if not free and not findings.errors:
            findings.error(
                f"{len(self.names)} {self.what} for train and {' and '.join(wanted)}: none is left for train; hold out "
                "fewer, or give the sets in a column set",
                self.source,
            )
        findings.raise_errors(ConfigError)
        return held_out


def is_list(text: str | None) -> bool:
    """Whether the value of an option is a list of speakers, not a share. Raises ConfigError if a share is too large."""
    return _share(text) is None


def _share(text: str | None) -> float | None:
    """A share of speakers, from 0 to 1: `0.1`, `10%` or 0. None for any other text, which is a list."""
    if text is None:
        return DEFAULT_SHARE
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%|(0?\.[0-9]+|0)", text)
    if match is None:
        return None
    number = parse_number(match[1] or match[2])
    if number is None or (share := number / 100 if match[1] else number) >= 1:
        raise ConfigError(f"a share of {text} of the speakers leaves none to train on")
    return share


def _draw(spk_id: str) -> bytes:
    """A key for a random order that depends only on the name, so a new speaker does not move the others."""
    return hashlib.sha256(spk_id.encode()).digest()


def _listed(name: str, text: str, free: set[str], known: set[str], findings: Findings) -> set[str]:
    listed = text.split(",")
    where = f"--{name}-speakers: "
    if os.path.isfile(text):
        content = read_text(text, findings) or ""
        listed, where = content.split("\n"), location(text)
    chosen = {spk for entry in listed if (spk := entry.strip())}
    if not chosen:
        findings.error(f"{where}no speakers; expected a share such as 0.1, a file, or speakers separated by commas")
    names = sorted(known)
    for number, spk in enumerate(sorted(chosen - free)):
        near = difflib.get_close_matches(spk, names, 1) if number < _HINTED and len(spk) <= _LONGEST_HINTED else []
        hint = f"; did you mean {near[0]!r}?" if near else "; expected a share such as 0.1, a file, or speakers"
        findings.error(f"{where}{spk}: {'already in another set' if spk in known else f'no such speaker{hint}'}")
    return chosen & free
