import hashlib
import json
import os
import shutil
import threading

import pytest

from asrkit.errors import DataError
from asrkit.io import notes as notes_module
from asrkit.io.atomic import atomic_dir, atomic_write, recording
from asrkit.io.stamp import (
    File,
    Output,
    Product,
    Stamp,
    changed_outputs,
    changing,
    expect_right,
    fingerprint,
    is_being_changed,
    read_outputs,
    wrong_outputs,
)

INPUTS = {"rate": 0.1, "files": ["a", "b"]}


def write(path, text):
    with atomic_write(path) as stream:
        stream.write(text)


def make(directory, inputs=INPUTS):
    """A step with two outputs, one below the other's directory."""
    stamp = Stamp(directory / ".stamp", inputs)
    with stamp.making():
        write(directory / "a", "one\n")
        write(directory / "below" / "b", "two\n")
    return stamp


def damage(path, how):
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.write_bytes(path.read_bytes()[:-2] + b"x\n")


def test_a_stamp_tells_what_was_made_from_what(tmp_path):
    stamp = Stamp(tmp_path / ".stamp", INPUTS)
    assert not stamp.is_current()
    make(tmp_path)
    assert stamp.is_current()
    assert Stamp(tmp_path / ".stamp", dict(reversed(INPUTS.items()))).is_current()
    assert not Stamp(tmp_path / ".stamp", INPUTS | {"rate": 0.2}).is_current()
    assert fingerprint(INPUTS) != fingerprint(INPUTS | {"files": ["b", "a"]})
    content = json.loads((tmp_path / ".stamp").read_text())
    assert content["outputs"]["a"] == [4, hashlib.sha256(b"one\n").hexdigest()]
    assert list(content["outputs"]) == ["a", "below/b"]


@pytest.mark.parametrize("how", ["delete", "cut", "change"])
@pytest.mark.parametrize("name", ["a", "below/b"])
@pytest.mark.parametrize("is_noted", [True, False])
def test_outputs_that_are_not_as_they_were_left_are_found(tmp_path, monkeypatch, how, name, is_noted):
    monkeypatch.setattr(notes_module, "_WORTH_KEEPING", 0 if is_noted else 1_000_000)
    stamp = make(tmp_path)
    assert stamp.is_current()
    damage(tmp_path / name, how)
    assert not stamp.is_current() and stamp.has_inputs()
    assert wrong_outputs(stamp.path) == [tmp_path / name]
    with pytest.raises(DataError) as error:
        expect_right(stamp.path, "stage 9 (asrkit do)")
    assert str(error.value) == (
        f"{tmp_path / name}: missing, or not as stage 9 (asrkit do) left it; run that again, or remove {stamp.path} if "
        "you changed it on purpose"
    )
    expect_right(stamp.path, "stage 9 (asrkit do)", [])
    make(tmp_path)
    assert stamp.is_current()
    expect_right(stamp.path, "stage 9 (asrkit do)")


def test_content_counts_not_time_or_place(tmp_path, monkeypatch):
    monkeypatch.setattr(notes_module, "_WORTH_KEEPING", 0)
    assert make(tmp_path / "here").is_current()
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    os.utime(tmp_path / "there" / "a", (0, 0))
    assert Stamp(tmp_path / "there" / ".stamp", INPUTS).is_current()
    assert Product(tmp_path / "there" / ".stamp").identity() == Product(tmp_path / "here" / ".stamp").identity()


def test_outputs_are_read_only_when_they_were_touched_since(tmp_path, monkeypatch):
    monkeypatch.setattr(notes_module, "_WORTH_KEEPING", 0)
    stamp, reads = make(tmp_path), []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: reads.append(args[0].name) or digest(*args))

    def look():
        reads.clear()
        assert stamp.is_current()
        return list(reads)

    while look():  # what was written just before the notes is read again
        pass
    for change in (os.utime, lambda path: path.write_text("one\n"), lambda path: shutil.copy2(path, tmp_path / "c")):
        change(tmp_path / "a")
    (tmp_path / "c").replace(tmp_path / "a")  # of the same size and time
    assert look() == [str(tmp_path / "a")]
    (tmp_path / "c").write_text("two\n")
    status = (tmp_path / "a").stat()
    os.utime(tmp_path / "c", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "c").replace(tmp_path / "a")
    assert not stamp.is_current()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"unfinished\n", b"[]", b"{}", b'{"inputs": "x", "outputs": {"a": [1]}}', b"0" * 64]
)
def test_a_damaged_stamp_is_none(tmp_path, content):
    stamp = make(tmp_path)
    stamp.path.write_bytes(content)
    assert not stamp.is_current() and not stamp.has_inputs()
    assert read_outputs(stamp.path) is None
    assert Product(stamp.path).identity() is None
    expect_right(stamp.path, "x")


def test_a_step_that_fails_leaves_no_stamp(tmp_path):
    stamp = make(tmp_path)
    with pytest.raises(RuntimeError), stamp.making():
        assert not stamp.path.exists()
        write(tmp_path / "a", "three\n")
        raise RuntimeError
    assert not stamp.path.exists()


def test_what_another_process_put_in_place_of_an_output_is_not_taken_for_it(tmp_path):
    stamp = Stamp(tmp_path / ".stamp", INPUTS)
    for rival in ("the same\n", "else\n"):
        with pytest.raises(DataError) as error, stamp.making():
            write(tmp_path / "a", "the same\n")
            thread = threading.Thread(target=write, args=(tmp_path / "a", rival))
            thread.start()
            thread.join()
        assert str(error.value) == f"{tmp_path}/a: replaced by another process while this one ran; run it again"
        assert not stamp.path.exists()


def test_inputs_are_those_from_before_the_step(tmp_path):
    (tmp_path / "input").write_text("old")
    inputs = {"file": File(tmp_path / "input")}
    stamp = Stamp(tmp_path / ".stamp", inputs)
    with stamp.making():
        (tmp_path / "input").write_text("new")  # perhaps read before, perhaps after
        write(tmp_path / "a", "one\n")
    assert not Stamp(tmp_path / ".stamp", inputs).is_current()


def test_identities_of_inputs(tmp_path):
    file = tmp_path / "file"
    assert (File(file).identity(), Product(file).identity()) == (None, None)
    file.write_text("one")
    before = File(file).identity()
    os.utime(file, (0, 0))
    assert File(file).identity() == before


def test_of_a_product_the_archives_count(tmp_path):
    """The tables, which must be right, too, say where archives are."""

    def make_archive(place):
        stamp = Stamp(tmp_path / ".feats.stamp", {"settings": place})
        with stamp.making():
            write(tmp_path / "feats.ark", "values")
            write(tmp_path / "feats.scp", place)
        return Product(stamp.path).identity()

    whole = make_archive("here")
    assert whole == {"feats.ark": hashlib.sha256(b"values").hexdigest()}
    for name in ("feats.ark", "feats.scp"):
        damage(tmp_path / name, "change")
        assert Product(tmp_path / ".feats.stamp").identity() is None
        assert make_archive("there") == whole


def test_another_step_changes_an_output(tmp_path):
    stamp = make(tmp_path)
    with changing(stamp.path, ["a"]):
        assert read_outputs(stamp.path)["a"] is None
        assert wrong_outputs(stamp.path) == [tmp_path / "a"]  # not to be skipped
        expect_right(stamp.path, "x")  # but whole
        assert is_being_changed(stamp.path) and changed_outputs(stamp.path) == []
        write(tmp_path / "a", "changed\n")
        write(tmp_path / "c", "not an output\n")
    assert stamp.is_current()
    assert list(read_outputs(stamp.path)) == ["a", "below/b"]
    assert not is_being_changed(stamp.path)
    with pytest.raises(RuntimeError), changing(stamp.path, ["a", "below/b"]):
        write(tmp_path / "a", "again\n")
        raise RuntimeError
    assert is_being_changed(stamp.path) and changed_outputs(stamp.path) == []
    assert wrong_outputs(stamp.path) == [tmp_path / "a", tmp_path / "below/b"]
    (tmp_path / "a").rename(tmp_path / "lost")
    assert changed_outputs(stamp.path) == [tmp_path / "a"]
    (tmp_path / "lost").rename(tmp_path / "a")
    with changing(stamp.path, ["a", "below/b"]):
        pass
    assert stamp.is_current()
    with changing(tmp_path / "none", ["a"]):
        pass
    assert not (tmp_path / "none").exists()


def test_what_a_thread_writes_is_recorded_by_each_record_of_it(tmp_path):
    with recording() as outer:
        with recording() as first:
            write(tmp_path / "a", "1")
        with recording() as second, atomic_dir(tmp_path / "d") as new:
            write(new / "b", "2")
            thread = threading.Thread(target=write, args=(tmp_path / "c", "3"))
            thread.start()
            thread.join()
    write(tmp_path / "e", "4")
    assert [list(record) for record in (first, second, outer)] == [
        [tmp_path / "a"],
        [tmp_path / "d/b"],
        [tmp_path / "a", tmp_path / "d/b"],
    ]
    assert Output.of(tmp_path / "d/b", second[tmp_path / "d/b"]).sha256 == hashlib.sha256(b"2").hexdigest()
