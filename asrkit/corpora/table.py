"""Reads tables of utterances, made with a spreadsheet or a script: CSV or TSV files with a row of column names."""

from __future__ import annotations

import csv
import difflib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asrkit.audio import is_pipe
from asrkit.corpora.common import SET_NAMES
from asrkit.errors import location
from asrkit.findings import Findings
from asrkit.formats.seconds import parse_time, to_micros
from asrkit.io.scp import split_fields
from asrkit.io.text import read_text
from asrkit.lang.symbols import symbol_fault

COLUMNS = ("audio", "phones", "utt", "speaker", "sex", "set", "start", "end")

# Other common names of the columns and sets, for suggestions in messages.
_MEANT_COLUMN = {
    **dict.fromkeys(("path", "file", "filename", "file_name", "wav", "wave", "recording"), "audio"),
    **dict.fromkeys(("phonemes", "phone", "transcript", "transcription", "labels", "ipa"), "phones"),
    **dict.fromkeys(("id", "utt_id", "uttid", "utterance", "utterance_id"), "utt"),
    **dict.fromkeys(("spk", "spk_id", "speaker_id", "client_id", "subject"), "speaker"),
    **dict.fromkeys(("gender",), "sex"),
    **dict.fromkeys(("split", "subset", "part", "partition"), "set"),
}
_MEANT_SET = {
    **dict.fromkeys(("training", "trn"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "development", "cv"), "dev"),
    **dict.fromkeys(("eval", "evaluation", "tst"), "test"),
}
_SEXES = {"m": "m", "male": "m", "f": "f", "female": "f", "": None}


@dataclass(frozen=True, slots=True)
class Row:
    """An utterance in the table or the directory.

    Attributes:
        where: the beginning of messages about it: file and line.
        base: the path of the recording within the corpus, without its ending.
        audio: the path of the recording.
        utt_id: its id; empty if not given.
        spk_id: its speaker; empty if not given.
        phones: its phones; empty if they are in label files.
        sex: "m", "f" or None.
        set_name: its set; empty if not given.
        start: its start in the recording, in seconds; None if not given.
        end: its end in the recording, in seconds; None if not given.
    """

    where: str
    base: str
    audio: Path
    utt_id: str = ""
    spk_id: str = ""
    phones: tuple[str, ...] = ()
    sex: str | None = None
    set_name: str = ""
    start: float | None = None
    end: float | None = None


@dataclass
class Table:
    """The content of a table of utterances.

    Attributes:
        rows: the utterances.
        columns: the names of the columns.
        named: the real paths of all audio in the table; None if rows are unreadable.
        missing: one line for each row whose audio is missing.
    """

    rows: list[Row] = field(default_factory=list)
    columns: frozenset[str] = frozenset()
    named: set[str] | None = None
    missing: list[str] = field(default_factory=list)


def read_table(path: Path, corpus_dir: Path, findings: Findings) -> Table:
    """Read a table of utterances. Errors are added to `findings`, and rows with an error are left out.

    Paths of audio are relative to `corpus_dir`.
    """
    text = read_text(path, findings)
    if text is None:
        return Table()
    table = Table(named=set())
    header: list[str] = []
    for number, cells in _read_cells(path, text.split("\n"), findings):
        where = location(path, number)
        if cells is None:
            table.named = None
        elif not header:
            header = [cell.lower() for cell in cells]
            num_errors = len(findings.errors)
            _check_header(header, where, findings)
            if len(findings.errors) > num_errors:
                return Table()
        elif len(cells) != len(header) and any(cells):
            findings.error(f"{where}{len(cells)} fields; the header has {len(header)}: {', '.join(header)}")
            table.named = None
        elif any(cells):
            _add_row(table, dict(zip(header, cells, strict=True)), where, corpus_dir, findings)
    if not table.rows and not findings.errors and not table.missing:
        findings.error("no utterances; expected a header and a row for each", path)
    table.columns = frozenset(header)
    return table


def _read_cells(path: Path, lines: Sequence[str], findings: Findings) -> Iterator[tuple[int, list[str] | None]]:
    """The number and the stripped cells of each line; None instead of cells if the line is not a row."""
    ending = path.suffix.lower()
    is_tsv = ending == ".tsv" or (ending != ".csv" and "\t" in lines[0])
    delimiter = ";" if ";" in lines[0] and "," not in lines[0] else ","
    for number, line in enumerate(lines, 1):
        try:
            # In a TSV file quotes are ordinary characters: X-SAMPA has many.
            cells = line.split("\t") if is_tsv else next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            findings.error(f"not a row of CSV ({error}); double the quotes inside a quoted field", path, number)
            yield number, None
        else:
            yield number, [cell.strip() for cell in cells]


def _check_header(header: Sequence[str], where: str, findings: Findings) -> None:
    for name in header:
        if name not in COLUMNS:
            near = [_MEANT_COLUMN[name]] if name in _MEANT_COLUMN else difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it;"
            findings.error(f"{where}unknown column {name!r}; {hint} known are {', '.join(COLUMNS)}")
    for name, times in Counter(header).items():
        if times > 1:
            findings.error(f"{where}column {name!r} is given {times} times")
    if "audio" not in header:
        findings.error(f"{where}no column audio; expected a header such as `audio,phones,speaker,set`")
    if ("start" in header) != ("end" in header):
        findings.error(f"{where}columns start and end need each other")


def _add_row(table: Table, cells: Mapping[str, str], where: str, corpus_dir: Path, findings: Findings) -> None:
    if table.named is not None:
        table.named.add(os.path.realpath(corpus_dir / cells["audio"]))
    row = _parse_row(cells, where, corpus_dir, findings)
    if row is not None and os.path.isfile(row.audio):  # False for a name that is too long
        table.rows.append(row)
    elif row is not None:
        table.missing.append(f"{where}no audio file {row.audio}")


def _parse_row(cells: Mapping[str, str], where: str, corpus_dir: Path, findings: Findings) -> Row | None:
    num_errors = len(findings.errors)
    if not cells["audio"]:
        findings.error(f"{where}no audio; expected its path below {corpus_dir}")
    elif is_pipe(cells["audio"]):
        findings.error(f"{where}{cells['audio']}: a pipe; expected an audio file")
    phones = tuple(split_fields(cells.get("phones", "")))
    if "phones" in cells:
        if not phones:
            findings.error(f"{where}no phones; give those of {cells['audio']} or remove the row")
        findings.errors += [f"{where}{fault}" for fault in map(symbol_fault, dict.fromkeys(phones)) if fault]
    for name in ("utt", "speaker"):
        if name in cells and not cells[name]:
            findings.error(f"{where}no {name}; fill the whole column or remove it")
        elif cells.get(name, "x").split() != [cells.get(name, "x")]:
            findings.error(f"{where}{name} {cells[name]!r} holds white space; write it without")
    sex = cells.get("sex", "").lower()
    if sex not in _SEXES:
        findings.error(f"{where}sex {cells['sex']!r}; expected m, f or nothing")
    set_name = cells.get("set", "").lower()
    if "set" in cells and set_name not in SET_NAMES:
        near = [_MEANT_SET[set_name]] if set_name in _MEANT_SET else difflib.get_close_matches(set_name, SET_NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        findings.error(f"{where}set {cells['set']!r}; expected train, dev or test{hint}")
    start, end = _parse_times(cells, where, findings)
    if len(findings.errors) > num_errors:
        return None
    audio = corpus_dir / cells["audio"]
    return Row(
        where=where,
        base=base_of(audio, corpus_dir),
        audio=audio,
        utt_id=cells.get("utt", ""),
        spk_id=cells.get("speaker", ""),
        phones=phones,
        sex=_SEXES[sex],
        set_name=set_name,
        start=start,
        end=end,
    )


def _parse_times(cells: Mapping[str, str], where: str, findings: Findings) -> tuple[float | None, float | None]:
    """The start and end of a row in seconds; None for a time that is not given."""
    start, end = (parse_time(cells.get(name) or "0") for name in ("start", "end"))
    has_start, has_end = bool(cells.get("start")), bool(cells.get("end"))
    # Times are compared in microseconds, because data directories have these.
    if start is None or end is None or (has_end and to_micros(start) >= to_micros(end)):
        findings.error(
            f"{where}start {cells['start'] or 'none'}, end {cells['end'] or 'none'}; expected seconds, with "
            "0 <= start < end"
        )
    return start if has_start else None, end if has_end else None


def base_of(path: Path, corpus_dir: Path) -> str:
    """The path of a file within the corpus, or its name if it is elsewhere, without the ending."""
    path = path.parent / path.stem  # with_suffix would refuse a path without a name, such as / or .
    return (path.relative_to(corpus_dir) if path.is_relative_to(corpus_dir) else Path(path.name)).as_posix()
