"""Tables of utterances, as people make them with a spreadsheet or a script: CSV or TSV with a row of column names."""

from __future__ import annotations

import csv
import difflib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import is_pipe
from asrkit.corpora.common import SET_NAMES
from asrkit.errors import location
from asrkit.formats.labels import read_text, symbol_fault
from asrkit.io.scp import split_fields

COLUMNS = ("audio", "phones", "utt", "speaker", "sex", "set", "start", "end")

# Other people's names of the columns and sets.
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
    """An utterance as the table or the directory has it. `where` begins messages about it."""

    where: str
    base: str  # the recording's path below the corpus without its ending
    audio: Path
    utt_id: str = ""
    spk_id: str = ""
    phones: tuple[str, ...] = ()
    sex: str | None = None
    set_name: str = ""
    start: float | None = None
    end: float | None = None


def read_table(
    table: Path, corpus_dir: Path, faults: list[str], missing: list[str]
) -> tuple[list[Row], set[str], set[str] | None]:
    """Rows of the table, its columns, and all audio that it names, None when that cannot be told.

    Audio that is not there goes to `missing`, other faults to `faults`.
    """
    text = read_text(table, faults)
    if text is None:
        return [], set(), None
    lines = text.split("\n")
    ending = table.suffix.lower()
    is_tsv = ending == ".tsv" or (ending != ".csv" and "\t" in lines[0])
    delimiter = "\t" if is_tsv else ";" if ";" in lines[0] and "," not in lines[0] else ","
    header: list[str] = []
    rows: list[Row] = []
    named: set[str] | None = set()
    for number, line in enumerate(lines, 1):
        where = location(table, number)
        try:
            # In a TSV file every character stands for itself: X-SAMPA is full of quotes.
            cells = line.split("\t") if is_tsv else next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            faults.append(f"{where}not a row of CSV ({error}); double the quotes inside a quoted field")
            named = None
            continue
        cells = [cell.strip() for cell in cells]
        if not header:
            header = [cell.lower() for cell in cells]
            header_faults = _header_faults(header, where)
            if header_faults:
                faults += header_faults
                return [], set(), None
            continue
        if not any(cells):
            continue
        if len(cells) != len(header):
            faults.append(f"{where}{len(cells)} fields; the header has {len(header)}: {', '.join(header)}")
            named = None
            continue
        fields = dict(zip(header, cells, strict=True))
        if named is not None:
            named.add(os.path.realpath(corpus_dir / fields["audio"]))
        row = _parse_row(fields, where, corpus_dir, faults)
        if row is None:
            continue
        if row.audio.is_file():
            rows.append(row)
        else:
            missing.append(f"{where}no audio file {row.audio}")
    if not rows and not faults and not missing:
        faults.append(f"{location(table)}no utterances; expected a header and a row for each")
    return rows, set(header), named


def _header_faults(header: Sequence[str], where: str) -> list[str]:
    faults = []
    for name in header:
        if name not in COLUMNS:
            near = [_MEANT_COLUMN[name]] if name in _MEANT_COLUMN else difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "remove it;"
            faults.append(f"{where}unknown column {name!r}; {hint} known are {', '.join(COLUMNS)}")
    faults += [f"{where}column {name!r} is given {n} times" for name, n in Counter(header).items() if n > 1]
    if "audio" not in header:
        faults.append(f"{where}no column audio; expected a header such as `audio,phones,speaker,set`")
    if ("start" in header) != ("end" in header):
        faults.append(f"{where}columns start and end need each other")
    return faults


def _parse_row(cells: Mapping[str, str], where: str, corpus_dir: Path, faults: list[str]) -> Row | None:
    num_faults = len(faults)
    if not cells["audio"]:
        faults.append(f"{where}no audio; expected its path below {corpus_dir}")
    elif is_pipe(cells["audio"]):
        faults.append(f"{where}{cells['audio']}: a pipe; expected an audio file")
    phones = tuple(split_fields(cells.get("phones", "")))
    if "phones" in cells:
        if not phones:
            faults.append(f"{where}no phones; give those of {cells['audio']} or remove the row")
        faults += [f"{where}{fault}" for fault in map(symbol_fault, dict.fromkeys(phones)) if fault]
    for name in ("utt", "speaker"):
        if name in cells and not cells[name]:
            faults.append(f"{where}no {name}; fill the whole column or remove it")
        elif cells.get(name, "x").split() != [cells.get(name, "x")]:
            faults.append(f"{where}{name} {cells[name]!r} holds white space; write it without")
    sex = cells.get("sex", "").lower()
    if sex not in _SEXES:
        faults.append(f"{where}sex {cells['sex']!r}; expected m, f or nothing")
    set_name = cells.get("set", "").lower()
    if "set" in cells and set_name not in SET_NAMES:
        near = [_MEANT_SET[set_name]] if set_name in _MEANT_SET else difflib.get_close_matches(set_name, SET_NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        faults.append(f"{where}set {cells['set']!r}; expected train, dev or test{hint}")
    times: list[float | None] = []
    for name in ("start", "end"):
        try:
            times.append(float(cells[name]) if cells.get(name) else None)
        except ValueError:
            times.append(math.nan)
    start, end = times
    if start is not None or end is not None:
        begin = 0.0 if start is None else start
        if not 0 <= begin < (math.inf if end is None else end) or end == math.inf:
            faults.append(
                f"{where}start {cells['start'] or 'none'}, end {cells['end'] or 'none'}; expected seconds, with "
                "0 <= start < end"
            )
    if len(faults) > num_faults:
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


def base_of(path: Path, corpus_dir: Path) -> str:
    """A file's path below the corpus, or its name when it is elsewhere, without the ending."""
    path = path.with_suffix("")
    return (path.relative_to(corpus_dir) if path.is_relative_to(corpus_dir) else Path(path.name)).as_posix()
