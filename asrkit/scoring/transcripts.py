"""Transcripts and speakers for scoring, from Kaldi tables (one line per utterance)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from asrkit.errors import DataError, location, raise_if_any
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.scp import read_table
from asrkit.lang.symbols import symbol_warnings


def read_references(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Read the reference transcripts.

    Raises:
        DataError: the file is not a table of transcripts (see `read_transcripts`), or it holds no phone at all.
    """
    refs = read_transcripts(path)
    if not any(refs.values()):
        raise DataError(f"{location(path)}no phones in it; expected `utt_id phone phone ...` lines")
    return refs


def transcript_warnings(transcripts_of: Mapping[str, Iterable[Iterable[str]]]) -> list[str]:
    """One line for each symbol that looks like another one. `transcripts_of`: file name -> transcripts."""
    return symbol_warnings(
        {name: {phone for phones in transcripts for phone in phones} for name, transcripts in transcripts_of.items()}
    )


def read_utt2spk(path: str | Path, utts: Iterable[str], ref: str | Path) -> dict[str, str]:
    """Read the speaker of each utterance.

    Raises:
        DataError: some of `utts`, which come from the file `ref`, have no speaker; one line for each.
    """
    utt2spk = read_table(path)
    raise_if_any([f"{location(path)}utterance {utt} of {ref} has no speaker" for utt in utts if utt not in utt2spk])
    return utt2spk
