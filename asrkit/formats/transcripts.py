"""Transcripts, as in Kaldi's table text. A line: `utterance phone phone ...`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from asrkit.errors import printable
from asrkit.io.scp import read_table, split_fields, write_table
from asrkit.types import Hypothesis


def read_transcripts(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read transcripts as utterance -> phones. A line with only an id is an empty transcript.

    Raises DataError if the file is missing, or lines are empty, repeated or not UTF-8. The message has a line for each
    fault.
    """
    return {utt: tuple(split_fields(row)) for utt, row in read_table(path, empty_ok=True).items()}


def write_transcripts(path: str | Path, transcripts: Mapping[str, Iterable[str]]) -> None:
    """Write transcripts sorted by utterance, atomically. Raises DataError as `write_table`."""
    write_table(path, {utt: " ".join(phones) for utt, phones in transcripts.items()})


def format_transcript(name: str, hypothesis: Hypothesis) -> str:
    """The line `name phone phone ...`. If there are alternatives: a line `name rank score phone ...` for each.

    The name is written in the form that `printable` gives.
    """
    name = printable(name)
    if not hypothesis.alternatives:
        return " ".join((name, *hypothesis.phones)) + "\n"
    ranked = enumerate(hypothesis.alternatives, 1)
    return "".join(" ".join((name, f"{rank} {other.score:.4f}", *other.phones)) + "\n" for rank, other in ranked)
