"""Files of arrays: they come back as they were, mapped and fixed; a file that is no such one is told."""

import io
from pathlib import Path

import numpy as np
import pytest

from asrkit.errors import DataError
from asrkit.io.columns import read_columns, text_column, write_columns
from asrkit.io.tables import Keys

COLUMNS = {
    "odd": np.arange(7, dtype=np.uint8),
    "none": np.empty(0, np.int32),
    "matrix": np.arange(6.0).reshape(2, 3),
    "strided": np.arange(10, dtype=np.int64)[::3],
    "text": text_column("ʃ\n#"),
}


def test_arrays_come_back_and_cannot_be_changed(tmp_path: Path) -> None:
    write_columns(tmp_path / "c", COLUMNS)
    found = read_columns(tmp_path / "c")
    assert list(found) == list(COLUMNS)
    for name, array in COLUMNS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].ctypes.data % 8 == 0 or not found[name].size
    with pytest.raises(ValueError, match="read-only"):
        found["odd"][0] = 1
    (tmp_path / "c").unlink()  # a map stays
    assert found["text"].tobytes().decode() == "ʃ\n#"


@pytest.mark.parametrize("kind", ["missing", "empty", "other", "objects", "python 2", *range(1, 400, 23)])
def test_other_files_are_told(tmp_path: Path, kind: str | int) -> None:
    write_columns(tmp_path / "c", {"a": np.arange(20), "b": np.arange(3)})
    whole = (tmp_path / "c").read_bytes()
    objects = io.BytesIO()
    np.lib.format.write_array(objects, np.array([{}], object), (1, 0), allow_pickle=True)
    contents = {"empty": b"", "other": b"text\n" * 99, "objects": objects.getvalue()}
    contents["python 2"] = whole.replace(b"(20,), }", b"(20L,),}")  # NumPy reads it, with a warning
    (tmp_path / "c").write_bytes(contents.get(kind, b"") if isinstance(kind, str) else whole[:kind])
    if kind == "missing":
        (tmp_path / "c").unlink()
    with pytest.raises(DataError, match=r"^\S*/c: expected arrays as asrkit writes them \(.*\); remove it$"):
        read_columns(tmp_path / "c")


def test_a_damaged_file_is_told_or_read(tmp_path: Path) -> None:
    path, rng, told = tmp_path / "c", np.random.default_rng(1), 0
    write_columns(path, COLUMNS)
    whole = np.fromfile(path, np.uint8)
    for _ in range(600):
        damaged, places = whole.copy(), rng.integers(len(whole), size=rng.integers(1, 4))
        damaged[places] = rng.choice(np.frombuffer(b"0123456789(),-'{}<fiOx\0\xff", np.uint8), len(places))
        damaged.tofile(path)
        try:
            read_columns(path)
        except DataError:
            told += 1
    assert told > 200


@pytest.mark.parametrize("keys", [["a", "b", "ü"], ["ü", "b", "a", "b\u00e4"], []])
def test_keys_in_a_file_are_found_as_those_in_memory(tmp_path: Path, keys: list[str]) -> None:
    in_memory = Keys(keys)
    write_columns(tmp_path / "c", in_memory.columns())
    found = Keys.of_columns(read_columns(tmp_path / "c"))
    assert list(found) == keys and list(found.in_order()) == sorted(keys)
    for key in (*keys, "x", "", "zz"):
        assert found.find(key) == in_memory.find(key) == (keys.index(key) if key in keys else -1)
    if keys:
        assert found.span() == (min(keys), max(keys)) and found[-1] == keys[-1]
