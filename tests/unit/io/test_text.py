"""Text files as they come from Windows, spreadsheets and old programs: every reader takes them."""

import re
from pathlib import Path

import pytest

import asrkit
from asrkit.audio.inputs import find_inputs
from asrkit.config.yaml_config import load_config
from asrkit.corpora.farsdat import _read_lines
from asrkit.corpora.speaker_split import Units
from asrkit.corpora.table import read_table as read_corpus_table
from asrkit.errors import DataError
from asrkit.features.config import FeatureConfig
from asrkit.findings import Findings
from asrkit.formats.arpa import read_arpa_text
from asrkit.formats.ctm import PhoneTimes, read_ctm, read_phone_times
from asrkit.formats.lab import read_lab
from asrkit.formats.phn import read_phn
from asrkit.formats.textgrid import read_textgrid
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.scp import read_table
from asrkit.io.tables import LazyTable
from asrkit.io.text import open_text, read_text
from asrkit.lang.tokens import TokenTable

TEXTGRID = 'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1\n1\n0\n1\n"ʃ"\n'
ARPA = "\\data\\\nngram 1=1\n\n\\1-grams:\n-1\tʃ\n\n\\end\\\n"


def collect(read, *arguments):
    """A reader that notes errors in its last argument, as one that raises them."""

    def call(path):
        findings = Findings()
        found = read(path, *arguments, findings)
        findings.raise_errors()
        return found

    return call


# What reads a kind of file, and a file of this kind.
READERS = {
    "kaldi table": (read_table, "u1 ʃ\nu2 a b\n"),
    "large kaldi table": (lambda path: dict(LazyTable(path)), "u1 ʃ\nu2 a b\n"),
    "transcripts": (read_transcripts, "u1 ʃ a\nu2 a\n"),
    "token table": (lambda path: TokenTable.read(path).symbols, "<blk> 0\nʃ 1\n"),
    "phones.ctm": (collect(read_phone_times), "u1 1 0 0.5 ʃ\nu1 1 0.5 0.5 a\nu2 1 0 1 a\n"),
    "large phones.ctm": (lambda path: dict(PhoneTimes(path)), "u1 1 0 0.5 ʃ\nu1 1 0.5 0.5 a\nu2 1 0 1 a\n"),
    "CTM": (collect(read_ctm), "u1 1 0 0.5 ʃ\n"),
    "TextGrid": (collect(read_textgrid), TEXTGRID),
    ".lab": (collect(read_lab), "0 1 ʃ\n1 2 a\n"),
    ".phn": (collect(read_phn, 16000), "0 100 ʃ\n"),
    "ARPA": (lambda path: read_arpa_text(path).split(), ARPA),
    "YAML": (lambda path: load_config(path, FeatureConfig), "# ʃ\nnum_ceps: 12\n"),
    "table of a corpus": (
        lambda path: collect(read_corpus_table, path.parent)(path).missing,
        "audio,phones\nno.wav,ʃ a\n",
    ),
    "list of speakers": (
        lambda path: Units("speakers", {"ʃ", "a", "b"}, path.parent).hold_out({"dev": str(path)}, known=set()),
        "a\nʃ\n",
    ),
    "list of audio files": (lambda path: find_inputs([], path), "no/ʃ.wav\nno/b.wav\n"),
    "FarsDat's tables": (lambda path: len(collect(_read_lines)(path)), "0 100\n100 200\n"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: name)
def test_every_reader_takes_every_byte_order_mark_and_line_end(tmp_path, name, encoding):
    read, text = READERS[name]
    path = tmp_path / "file.csv"
    path.write_bytes(text.encode())
    expected = read(path)
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert read(path) == expected


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    import os
    import threading

    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=["\ufeffʃ 1\r\n".encode()])
    writer.start()
    with open_text(tmp_path / "pipe") as stream:
        assert stream.read() == "ʃ 1\r\n".encode()
    writer.join()


def test_what_is_not_what_its_mark_says(tmp_path):
    (tmp_path / "text").write_bytes(b"\xff\xfea\0b")
    for read in (open_text, read_table, TokenTable.read, LazyTable, PhoneTimes, read_arpa_text, collect(read_text)):
        with pytest.raises(DataError, match=r"text: not utf-16, which its first bytes promise .*; save it as UTF-8"):
            read(tmp_path / "text")
    (tmp_path / "text").write_bytes(b"")
    assert open_text(tmp_path / "text").read() == b""


def test_text_of_others_is_opened_in_one_place():
    """What asrkit alone writes and reads is read by other means: stamps, reports, pages, settings beside features."""
    own = {
        "io/atomic.py",
        "io/processes.py",
        "io/stamp.py",
        "corpora/mini.py",
        "io/json_text.py",
        "reporting/html/page.py",
        "reporting/table.py",
        "serve/app.py",
        "stages/analysis.py",
    }
    package = Path(asrkit.__file__).parent
    decoding = re.compile(r"[.]read_text\(|read_bytes\(\)[.]decode|open\([^)]*encoding=")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if decoding.search(re.sub(r'open\([^)]*"w"[^)]*', "", path.read_text(encoding="utf-8")))
    }
    assert found <= own, found - own
