"""What is written into an archive or a table comes back bit for bit, whatever the keys, shapes and values."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from asrkit.io.ark import ArkReader, ArkWriter
from asrkit.io.scp import read_table, write_table

# Any Unicode but NUL and the ASCII characters that separate fields and lines; Kaldi's keys end at a blank.
characters = st.characters(exclude_characters=" \t\r\n\0", exclude_categories=["Cs"])
keys = st.text(characters, min_size=1, max_size=12).filter(lambda key: not key.startswith("\ufeff"))
shapes = st.one_of(st.tuples(st.integers(0, 9)), st.tuples(st.integers(0, 6), st.integers(0, 6)))
values = st.sampled_from([np.float32, np.float64]).flatmap(lambda dtype: arrays.arrays(dtype, shapes))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(keys, values, min_size=1, max_size=6))
def test_ark(content):
    with tempfile.TemporaryDirectory() as folder:
        with ArkWriter(Path(folder) / "a.ark", Path(folder) / "a.scp") as writer:
            for key, array in content.items():
                writer.write(key, array)
        reader = ArkReader(Path(folder) / "a.scp")
        assert list(reader) == sorted(content, key=str.encode)
        for key, array in content.items():
            assert reader.shape(key) == array.shape
            assert reader.num_rows(key) == array.shape[0]
            found = reader[key]
            assert found.dtype == array.dtype
            assert found.tobytes() == array.tobytes()  # NaN payloads and -0.0 included


fields = st.lists(st.text(characters, min_size=1, max_size=5), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(keys, fields, max_size=8))
def test_table(content):
    rows = {key: " ".join(value) for key, value in content.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "table", rows)
        assert read_table(Path(folder) / "table") == rows
        lines = (Path(folder) / "table").read_bytes().split(b"\n")
        assert lines[:-1] == sorted(lines[:-1], key=lambda line: line.split(b" ", 1)[0])
