"""Kaldi text tables: what is read, and that every fault is named with file and line at once."""

import os

import pytest

from asrkit.errors import DataError
from asrkit.io.scp import read_table, split_fields, write_table


def test_blanks_and_tabs(tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"b\tone two\nc  \t three\t \na sox x.wav -t wav - |\r\n")
    assert read_table(path) == {"b": "one two", "c": "three", "a": "sox x.wav -t wav - |"}


def test_last_line_without_end(tmp_path):
    (tmp_path / "table").write_bytes(b"a 1\nb 2")
    assert read_table(tmp_path / "table") == {"a": "1", "b": "2"}


def test_unicode_that_looks_like_a_line_end_or_blank(tmp_path):
    rows = {"a": "p\u2028q", "b": "\u00a0 x\x85 \x0b \x1c", "c\u3000d": "' # , ] < \\"}
    write_table(tmp_path / "table", rows)
    assert read_table(tmp_path / "table") == rows
    assert split_fields(rows["b"]) == ["\u00a0", "x\x85", "\x0b", "\x1c"]


def test_every_fault_at_once(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"a x\n\nb\nc \xff\xfe\na y\n  \n\xe9 z\nd w\n")
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert str(caught.value).split("\n") == [
        f"{path}:2: empty line; remove it",
        f"{path}:3: b has no value",
        f"{path}:4: not UTF-8 (byte 0xff in column 3); re-encode it",
        f"{path}:5: a a second time (first in line 1); remove one of them",
        f"{path}:6: empty line; remove it",
        f"{path}:7: not UTF-8 (byte 0xe9 in column 1); re-encode it",
    ]


def test_empty_values_when_admitted(tmp_path):
    (tmp_path / "hyp").write_text("a\nb x\n")
    assert read_table(tmp_path / "hyp", empty_ok=True) == {"a": "", "b": "x"}


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "none")
    with pytest.raises(DataError, match="Is a directory"):
        read_table(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_key_and_none_can_begin_a_key(tmp_path):
    (tmp_path / "text").write_bytes("\ufeffa x\n".encode())
    assert read_table(tmp_path / "text") == {"a": "x"}
    with pytest.raises(DataError, match=r"must not begin with a byte-order mark \(U\+FEFF\)"):
        write_table(tmp_path / "t", {"\ufeffa": "x"})


def test_line_ends_of_old_macs_would_make_one_row_of_all(tmp_path):
    (tmp_path / "text").write_bytes(b"a x\rb y\r")
    with pytest.raises(DataError, match=r"text:1: a carriage return inside the line"):
        read_table(tmp_path / "text")
    with pytest.raises(DataError, match="must not hold line ends"):
        write_table(tmp_path / "t", {"a": "x\ry"})


def test_names_that_are_not_utf_8_are_shown(tmp_path):
    with pytest.raises(DataError) as refused:
        write_table(tmp_path / "wav.scp", {"a": "x.wav", "b": os.fsdecode(b"\xff.wav")})
    assert str(refused.value) == f"{tmp_path}/wav.scp: b \\xff.wav: not UTF-8; rename that file or directory"
    assert not (tmp_path / "wav.scp").exists()


def test_written_in_byte_order(tmp_path):
    # In UTF-8, U+FF5E comes before U+10000; in UTF-16 it would not.
    rows = dict.fromkeys(["b", "a", "A", "é", "z", "\U00010000", "\uff5e", "a-1", "a1"], "v")
    write_table(tmp_path / "t", rows)
    keys = [line.split(b" ")[0] for line in (tmp_path / "t").read_bytes().split(b"\n")[:-1]]
    assert keys == sorted(key.encode() for key in rows)


def test_write_refuses_what_cannot_be_read_back(tmp_path):
    with pytest.raises(DataError) as caught:
        write_table(tmp_path / "t", {"a b": "x", "": "y", "c": "two\nlines", "d": " padded", "e": "fine"})
    assert len(str(caught.value).split("\n")) == 4
    assert list(tmp_path.iterdir()) == []
