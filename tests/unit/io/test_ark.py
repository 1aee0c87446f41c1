"""Archives: views without copies, clear errors for what is missing or cut short, and all-or-nothing writing."""

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from asrkit.errors import DataError
from asrkit.io.ark import ArkReader, ArkWriter, name_new_place, names_its_place


@pytest.fixture
def archive(tmp_path):
    with ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp") as writer:
        writer.write("b", np.arange(6, dtype=np.float32).reshape(2, 3))
        writer.write("a", np.array([1.5, -2.5]))
    return tmp_path / "a.scp"


def test_views_of_the_file(archive):
    matrix = ArkReader(archive)["b"]
    assert not matrix.flags.owndata
    assert not matrix.flags.writeable
    # The map is shared with the file: a change of the file is seen without reading again.
    content = bytearray((archive.parent / "a.ark").read_bytes())
    position = content.index(np.float32(5).tobytes())
    with open(archive.parent / "a.ark", "r+b") as stream:
        stream.seek(position)
        stream.write(np.float32(7).tobytes())
    assert matrix[1, 2] == 7


def test_views_outlive_the_reader(archive):
    reader = ArkReader(archive)
    matrix = reader["b"]
    del reader
    assert matrix.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_mapping_and_pickle(archive):
    reader = ArkReader(archive)
    assert reader["a"].tolist() == [1.5, -2.5]
    for other in (reader, pickle.loads(pickle.dumps(reader))):
        assert list(other) == ["a", "b"]
        assert len(other) == 2
        assert "a" in other and "c" not in other
        assert other.num_rows("b") == 2
        assert other["b"].shape == (2, 3)
    with pytest.raises(KeyError):
        reader["c"]


def test_archive_larger_than_memory(tmp_path):
    """A sparse file of 128 GiB: sizes come from the header, and a row is read without the rest."""
    rows, cols = 2**29, 64
    header = b"utt \0BFM " + struct.pack("<bibi", 4, rows, 4, cols)
    with open(tmp_path / "a.ark", "wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + 4 * rows * cols)
        stream.seek(-4, 2)
        stream.write(np.float32(1.5).tobytes())
    (tmp_path / "a.scp").write_text(f"utt {tmp_path}/a.ark:4\n")
    reader = ArkReader(tmp_path / "a.scp")
    assert reader.num_rows("utt") == rows
    assert reader["utt"][-1].tolist() == [0.0] * 63 + [1.5]


def test_relative_archives(archive, monkeypatch):
    scp = archive.parent / "relative.scp"
    offset = (archive.parent / "a.ark").read_bytes().index(b"a \0BDV") + 2
    scp.write_text(f"a a.ark:{offset}\n")
    assert ArkReader(scp, root=archive.parent)["a"].tolist() == [1.5, -2.5]
    monkeypatch.chdir(archive.parent)
    assert ArkReader(scp)["a"].tolist() == [1.5, -2.5]


def test_archives_that_were_moved_with_their_table(archive, tmp_path, monkeypatch):
    there = tmp_path / "there"
    there.mkdir()
    assert names_its_place(archive)
    made_here = archive.read_text()
    for name in ("a.scp", "a.ark"):
        (tmp_path / name).rename(there / name)
    assert not names_its_place(there / "a.scp")
    with pytest.raises(DataError, match=r"a\.ark: No such file"):
        ArkReader(there / "a.scp")["a"]
    assert ArkReader(there / "a.scp", is_beside=True)["a"].tolist() == [1.5, -2.5]
    monkeypatch.chdir(there)
    for table in (Path("a.scp"), there / "a.scp"):
        assert ArkReader(table, is_beside=True)["a"].tolist() == [1.5, -2.5]
    name_new_place(Path("a.scp"))
    assert (there / "a.scp").read_text() == made_here.replace(f"{tmp_path}/", f"{there}/")
    assert names_its_place(Path("a.scp"))
    assert ArkReader("a.scp")["a"].tolist() == [1.5, -2.5]
    (tmp_path / "link").symlink_to(there)
    assert names_its_place(tmp_path / "link" / "a.scp")


def test_other_shapes_and_orders(tmp_path):
    matrix = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    with ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp") as writer:
        writer.write("fortran", matrix)
        writer.write("strided", matrix[::2, ::-1])
        for bad in (matrix.astype(">f4"), np.zeros((2, 2), np.int32), np.zeros((1, 1, 1), np.float32), np.float32(1)):
            with pytest.raises(TypeError):
                writer.write("bad", bad)
    reader = ArkReader(tmp_path / "a.scp")
    np.testing.assert_array_equal(reader["fortran"], matrix)
    np.testing.assert_array_equal(reader["strided"], matrix[::2, ::-1])


def test_faults_of_the_scp_at_once(tmp_path):
    (tmp_path / "a.scp").write_text("a x.ark:3\nb copy-feats ark:x - |\nc x.ark:3[0:9]\na x.ark:9\nd\n")
    with pytest.raises(DataError) as caught:
        ArkReader(tmp_path / "a.scp")
    lines = str(caught.value).split("\n")
    assert sorted(line.split(":")[1] for line in lines) == ["2", "3", "4", "5"]
    assert any("pipe" in line for line in lines) and any("range" in line for line in lines)


def test_missing_and_empty_archives(archive):
    (archive.parent / "a.ark").unlink()
    with pytest.raises(DataError, match=r"a\.scp:2: .*a\.ark: No such file or directory"):
        ArkReader(archive)["b"]
    (archive.parent / "a.ark").touch()
    with pytest.raises(DataError, match="empty file"):
        ArkReader(archive)["b"]


def test_every_truncation_is_noticed(archive):
    path = archive.parent / "a.ark"
    content = path.read_bytes()  # `b` stands first, then `a`
    begin_a = content.index(b"a \0BDV")
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.scp:1: "):
            ArkReader(archive)["a"]
        if length < begin_a:
            with pytest.raises(DataError, match=r"a\.scp:2: "):
                ArkReader(archive).num_rows("b")
        else:
            assert ArkReader(archive)["b"].shape == (2, 3)


@pytest.mark.parametrize(
    "content", [b"a  [\n 1 2 ]\n", b"\0BIV \4\1\0\0\0\4\1\0\0\0", b"RIFF....", b"\0BFM \4\xff\xff\xff\xff\4\2\0\0\0"]
)
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "a.ark").write_bytes(content)
    (tmp_path / "a.scp").write_text(f"a {tmp_path}/a.ark:0\n")
    with pytest.raises(DataError, match=r"a\.scp:1: "):
        ArkReader(tmp_path / "a.scp")["a"]


def test_repeated_key_leaves_nothing(tmp_path):
    fault = pytest.raises(DataError, match="utt written a second time")
    with fault, ArkWriter(tmp_path / "a.ark", tmp_path / "a.scp") as writer:
        writer.write("utt", np.zeros(2, np.float32))
        writer.write("utt", np.zeros(2, np.float32))
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_old_archive(archive):
    with pytest.raises(RuntimeError), ArkWriter(archive.parent / "a.ark", archive) as writer:
        writer.write("new", np.zeros(2, np.float32))
        raise RuntimeError
    assert list(ArkReader(archive)) == ["a", "b"]
    assert ArkReader(archive)["b"].shape == (2, 3)


def test_no_old_scp_beside_a_new_archive(archive, monkeypatch):
    """Offsets of the old scp file would point anywhere in the new archive."""

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("asrkit.io.ark.write_table", fail)
    with pytest.raises(OSError, match="disk full"), ArkWriter(archive.parent / "a.ark", archive) as writer:
        writer.write("new", np.zeros(2, np.float32))
    assert not archive.exists()


def test_many_archives_stay_within_the_limit_of_maps(tmp_path):
    lines = []
    for number in range(300):
        with ArkWriter(tmp_path / f"{number}.ark", tmp_path / f"{number}.scp") as writer:
            writer.write(f"utt{number:03}", np.full(2, number, np.float32))
        lines.append((tmp_path / f"{number}.scp").read_text())
    (tmp_path / "all.scp").write_text("".join(lines))
    reader = ArkReader(tmp_path / "all.scp")
    views = [reader[key] for key in reader]
    assert len(reader._maps) <= 256
    assert [view[0] for view in views] == list(range(300))
    assert reader["utt000"][1] == 0
