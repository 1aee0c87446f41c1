"""A table of several experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkit.reporting.table import System, read_systems, render_differences, render_table


@dataclass(frozen=True)
class SystemTable:
    """Systems with their costs and phone error rates. Experiments that differ only in the seed are one system."""

    systems: Sequence[System]

    def text(self) -> str:
        """The table, followed by the differences between systems that differ in only one setting."""
        parts = [render_table(self.systems), render_differences(self.systems)]
        return "\n\n".join(part for part in parts if part)


def tabulate(experiments: Sequence[str | Path]) -> SystemTable:
    """Make a table of experiment directories that have reports in decode_dev and decode_test.

    Raises:
        ModelError: a directory is not a trained experiment.
        DataError: a report is missing or faulty, or the experiments were not scored in the same way; one line each.
    """
    return SystemTable(read_systems([Path(directory) for directory in experiments]))
