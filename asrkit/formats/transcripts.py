"""Transcripts: `utterance phone phone ...` a line, as in Kaldi's table text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from asrkit.errors import printable
from asrkit.io.scp import read_table, split_fields, write_table
from asrkit.types import Hypothesis


def read_transcripts(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read transcripts as utterance -> phones; an id alone is an empty transcript.

    Raises:
        DataError: the file is missing, or lines are empty, repeated or not UTF-8; a line of the message for each.
    """
    return {utt: tuple(split_fields(row)) for utt, row in read_table(path, empty_ok=True).items()}


def write_transcripts(path: str | Path, transcripts: Mapping[str, Iterable[str]]) -> None:
    """Write transcripts sorted by utterance, atomically. Raises DataError as `write_table`."""
    write_table(path, {utt: " ".join(phones) for utt, phones in transcripts.items()})


def format_transcript(name: str, hypothesis: Hypothesis) -> str:
    """`name phone phone ...`, or `name rank score phone ...` for each of the alternatives where there are any.

    The name is written as `printable` gives it.
    """
    name = printable(name)
    if not hypothesis.alternatives:
        return " ".join((name, *hypothesis.phones)) + "\n"
    ranked = enumerate(hypothesis.alternatives, 1)
    return "".join(" ".join((name, f"{rank} {other.score:.4f}", *other.phones)) + "\n" for rank, other in ranked)
