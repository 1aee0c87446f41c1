import pickle
from pathlib import Path

import numpy as np
import pytest

from asrkit.errors import DataError
from asrkit.io.tables import Keys, LazyTable, Numbers

SORTED = ["a", "ab", "b", "bé", "bü-1", "c"]
SHUFFLED = ["c", "bü-1", "a", "bé", "ab", "b"]


@pytest.mark.parametrize("names", [SORTED, SHUFFLED, [], ["only"], [f"utt{i:05d}" for i in range(10000)]])
def test_keys_are_a_sequence_that_knows_its_rows(names: list[str]) -> None:
    keys = pickle.loads(pickle.dumps(Keys(names)))
    assert list(keys) == names
    assert len(keys) == len(names)
    for row, name in enumerate(names):
        assert keys[row] == name
        assert keys.row(name) == row
    shuffled = np.random.default_rng(1).permutation(len(names)).tolist()
    assert [keys.find(names[row]) for row in [*shuffled, *shuffled[::-1]]] == [*shuffled, *shuffled[::-1]]
    for absent in ("", "0", "bz", "zzz", "utt"):
        assert absent not in keys
        assert keys.find(absent) == -1
        with pytest.raises(KeyError):
            keys.row(absent)
    assert keys == Keys(names)
    assert keys != Keys([*names, "more"])
    assert keys.repeated() == []
    with pytest.raises(IndexError):
        keys[len(names)]


def test_repeated_keys_are_found() -> None:
    assert Keys(["b", "a", "b", "c", "a", "b"]).repeated() == ["a", "b"]
    assert Keys(["a", "a"]).repeated() == ["a"]


def test_numbers_are_a_mapping() -> None:
    counts = {name: 10 * row for row, name in enumerate(SHUFFLED)}
    numbers = Numbers.of(counts)
    assert dict(numbers) == counts
    assert Numbers.of(numbers) is numbers
    odd = numbers.where(np.arange(len(counts)) % 2 == 1)
    assert dict(odd) == {name: counts[name] for name in SHUFFLED[1::2]}
    assert SHUFFLED[0] not in odd
    assert numbers.where(np.ones(len(counts), bool)) is numbers


def test_a_lazy_table_reads_what_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "wav.scp"
    path.write_bytes("c  /x y/c.wav \r\nbü\t/bü.wav\na /a.wav".encode())
    table = pickle.loads(pickle.dumps(LazyTable(path)))
    assert dict(table) == dict(table.rows()) == {"c": "/x y/c.wav", "bü": "/bü.wav", "a": "/a.wav"}
    with pytest.raises(KeyError):
        table["d"]
    path.write_text("another /file.wav\n")
    with pytest.raises(DataError, match=r"wav\.scp:2: no longer the line of bü; the file was changed while in use"):
        table["bü"]


def test_a_faulty_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text("b /b.wav\na /a.wav\nb /c.wav\n")
    with pytest.raises(DataError, match=r"wav\.scp:3: b a second time \(first in line 1\)"):
        LazyTable(tmp_path / "wav.scp")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_only_a_lazy_table_that_is_decoded_as_a_whole_is_kept(tmp_path: Path, encoding: str) -> None:
    """Decoding it for each row would cost the square of their number."""
    path = tmp_path / "wav.scp"
    path.write_text("a 1\nb ʃ\nc 3\n", encoding=encoding)
    table = pickle.loads(pickle.dumps(LazyTable(path)))
    path.rename(tmp_path / "moved")
    if encoding == "utf-16":
        assert [table[key] for key in "cab"] == ["3", "1", "ʃ"]
    else:
        with pytest.raises(DataError, match="no longer the line of c"):
            table["c"]
