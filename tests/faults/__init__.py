"""What must not go wrong whatever happens: damaged and crafted files, kills, full disks. `python -m tests.faults KIND`.

Each kind is a module with `configure(parser)`, which declares its options, and `outcomes(args)`, which tries one fault
after the other. The suite runs a small share of each.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """A fault that was tried: its name, and what went wrong; None when all was right."""

    name: str
    wrong: str | None = None
