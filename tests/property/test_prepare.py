"""What `prepare own` accepts, every later reader reads; what it does not, it refuses with file and line."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import event, given, settings
from hypothesis import strategies as st

from asrkit.audio import AudioAccess
from asrkit.errors import ConfigError, DataError
from asrkit.formats.ctm import PhoneTimes
from asrkit.formats.data_dir import load_data_dir
from asrkit.io.tables import LazyTable
from asrkit.lang.tokens import TokenTable
from asrkit.stages.preparation import prepare_own
from asrkit.stages.validation import validate

RATE, LENGTH = 8000, 0.2  # Hz, seconds
# What rounding does to times, at both sides of every tolerance, and worse.
SHIFTS = (*[0.0] * 12, *[1e-9, 4e-7, 1e-4, 0.001, 0.0014] * 2, 0.0016, 0.005, 0.0099, 0.011, 0.3)
GOOD = [*"abʃã'#,]<\\;|!𝼆\ufeff\x01\u00ad", "a\u0303", "\u0303", "1.5", "t͡s", "<exists>", "a\u200d"]
BAD = ['"', "<blk>", "a\u00a0b", "a\u2028", "\x85"]  # or good in some of the kinds
PHONES = st.integers(0, 19).flatmap(lambda number: st.sampled_from(GOOD if number else BAD))
NAMES = st.sampled_from(["u é", "\ufeffu", *"abcdefgh"])


@dataclass(frozen=True)
class Made:
    """A corpus as it is written: the kind of its labels, (phone, start, end) of each recording, and how files are."""

    kind: str
    labels: tuple[tuple[tuple[str, float, float], ...], ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]  # of each recording, for `columns`
    encoding: str
    line_end: str


@st.composite
def corpora(draw) -> Made:
    kind = draw(st.sampled_from(["TextGrid", "phn", "lab", "htk.lab", "plain.lab", "ctm", "csv", "tsv"]))
    labels = tuple(draw(recordings()) for _ in range(draw(st.integers(3, 5))))
    columns = draw(st.lists(st.sampled_from(["speaker", "utt", "set", "times"]), unique=True)) if "sv" in kind else []
    return Made(
        kind,
        labels,
        tuple(columns),
        tuple(tuple(draw(cells_of(column)) for column in columns) for _ in labels),
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])),
        draw(st.sampled_from(["\n", "\r\n"])),
    )


@st.composite
def recordings(draw) -> tuple[tuple[str, float, float], ...]:
    """Labels that follow each other from the beginning to the end, but for shifts of every boundary."""
    number = draw(st.integers(1, 4))
    shift = st.sampled_from([sign * value for value in SHIFTS for sign in (1, -1)])
    bounds = [LENGTH * index / number for index in range(number + 1)]
    return tuple((draw(PHONES), start + draw(shift), end + draw(shift)) for start, end in pairwise(bounds))


def cells_of(column: str) -> st.SearchStrategy[str]:
    if column == "set":
        return st.sampled_from(["train", "train", "dev", "test"])
    if column == "times":
        bounds = [0.0, LENGTH / 2, LENGTH]
        times = st.builds(lambda at, shift: f"{at + shift:.9f}", st.sampled_from(bounds), st.sampled_from(SHIFTS))
        return st.builds("{},{}".format, st.one_of(times, st.just("")), st.one_of(times, st.just("")))
    return st.one_of(NAMES, st.sampled_from(["anna", "reza"]))


def write(made: Made, corpus: Path) -> None:
    corpus.mkdir()
    ending = made.kind.split(".")[-1]
    ctm: list[str] = []
    table = [",".join(["audio", "phones", *made.columns]).replace("times", "start,end")]
    for number, (labels, cells) in enumerate(zip(made.labels, made.cells, strict=True)):
        name = f"r{number}"
        soundfile.write(corpus / f"{name}.wav", np.zeros(round(LENGTH * RATE), np.int16), RATE)
        phones = " ".join(phone for phone, _, _ in labels)
        rows = {
            "phn": [f"{round(start * RATE)} {round(end * RATE)} {phone}" for phone, start, end in labels],
            "lab": [f"{start:.9f} {end:.9f} {phone}" for phone, start, end in labels],
            "htk.lab": [f"{round(start * 1e7)} {round(end * 1e7)} {phone}" for phone, start, end in labels],
            "plain.lab": [phone for phone, _, _ in labels],
            "TextGrid": textgrid(labels),
        }
        ctm += [f"{name} 1 {start:.9f} {end - start:.9f} {phone}" for phone, start, end in labels]
        quoted = phones if made.kind == "tsv" else '"' + phones.replace('"', '""') + '"'
        table.append(",".join([f"{name}.wav", quoted, *cells]))
        if made.kind in rows:
            save(made, corpus / f"{name}.{ending}", rows[made.kind])
    if made.kind == "ctm":
        save(made, corpus / "all.ctm", ctm)
    if made.kind == "csv":
        save(made, corpus / "t.csv", table)
    if made.kind == "tsv":  # no quotes there, and tabs for the commas that are none of a phone's
        save(made, corpus / "t.tsv", [tabs(row, made) for row in table])


def tabs(row: str, made: Made) -> str:
    cells = row.split(",")
    num_after = sum(2 if column == "times" else 1 for column in made.columns)
    phones = ",".join(cells[1 : len(cells) - num_after])
    return "\t".join([cells[0], phones, *cells[len(cells) - num_after :]])


def textgrid(labels) -> list[str]:
    rows = ['"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "phones" 0 1', str(len(labels))]
    return rows + [f'{start!r} {end!r} "{phone.replace(chr(34), chr(34) * 2)}"' for phone, start, end in labels]


def save(made: Made, path: Path, rows: list[str]) -> None:
    path.write_bytes("".join(row + made.line_end for row in rows).encode(made.encoding))


@settings(max_examples=100, deadline=None)
@given(made=corpora())
def test_prepare_refuses_with_file_and_line_or_writes_what_can_be_read(tmp_path_factory, made):
    root = tmp_path_factory.mktemp("own")
    corpus, data_dir = root / "corpus", root / "data"
    write(made, corpus)
    try:
        prepare_own(corpus, data_dir)
    except ConfigError as error:  # of how the utterances are split
        event("no set")
        assert re.search(r"nothing to train on|none is left for train", str(error))
        return
    except DataError as error:
        event(f"{made.kind} refused")
        for line in str(error).split("\n"):
            assert re.match(rf"{re.escape(str(corpus))}/[^:]+:([0-9]+: .| no phones in it| empty;)", line), line
        assert not data_dir.exists()
        return
    event(f"{made.kind} accepted")
    tokens = TokenTable.read(data_dir / "tokens.txt")
    for name in ("train", "dev", "test"):
        if (data_dir / name).exists():
            check(data_dir / name, tokens)


def check(data_dir: Path, tokens: TokenTable) -> None:
    """All that extraction and training read."""
    data = load_data_dir(data_dir)
    assert validate(data_dir, tokens=tokens).findings.errors == []
    assert [*LazyTable(data_dir / "text")] == [*data.text]
    for utt in data.utterances():
        tokens.encode(utt.phones)
        waveform = AudioAccess().load(utt.audio, start=utt.start, end=utt.end)
        assert len(waveform.samples) == round(data.utt2dur[utt.utt_id] * RATE) or data.utt2dur[utt.utt_id] < 1 / RATE
    if (data_dir / "phones.ctm").exists():
        times = PhoneTimes(data_dir / "phones.ctm")
        assert {utt: tuple(time.phone for time in times[utt]) for utt in times} == data.text
        assert {utt: times[utt] for utt in times} == data.phone_times
        for utt, phones in data.phone_times.items():
            starts = [time.start for time in phones]
            assert starts == sorted(starts) and starts[0] >= 0
            assert all(time.start <= time.end <= data.utt2dur[utt] + 2e-6 for time in phones)
