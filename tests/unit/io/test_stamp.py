import hashlib
import json
import os
import shutil
import threading

import pytest

from asrkit.errors import DataError
from asrkit.io import stamp as stamp_module
from asrkit.io.atomic import atomic_dir, atomic_write, recording
from asrkit.io.stamp import (
    File,
    LargeFile,
    Output,
    Product,
    Stamp,
    changing,
    expect_right,
    fingerprint,
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


def wait_for_the_clock(directory, since):
    """Until what is written has a later time than `since`."""
    probe = directory / "probe"
    while True:
        probe.write_text("")
        if probe.stat().st_ctime_ns > since:
            return probe.unlink()


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
@pytest.mark.parametrize("small", [0, 1_000_000])
def test_outputs_that_are_not_as_they_were_left_are_found(tmp_path, monkeypatch, how, name, small):
    monkeypatch.setattr(stamp_module, "_SMALL", small)
    stamp = make(tmp_path)
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
    monkeypatch.setattr(stamp_module, "_SMALL", 0)
    make(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    os.utime(tmp_path / "there" / "a", (0, 0))
    assert Stamp(tmp_path / "there" / ".stamp", INPUTS).is_current()
    assert Product(tmp_path / "there" / ".stamp").identity() == Product(tmp_path / "here" / ".stamp").identity()


def test_large_files_are_read_only_when_they_were_touched_since(tmp_path, monkeypatch):
    monkeypatch.setattr(stamp_module, "_SMALL", 3)
    stamp, reads = make(tmp_path), []
    digest = hashlib.file_digest
    later = max(path.stat().st_ctime_ns for path in tmp_path.rglob("*")) + 1
    os.utime(stamp.path, ns=(later, later))  # clocks of file systems are too coarse for a test
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: reads.append(args[0].name) or digest(*args))
    assert stamp.is_current()
    assert reads == []
    for change in (os.utime, lambda path: path.write_text("one\n"), lambda path: shutil.copy2(path, tmp_path / "c")):
        wait_for_the_clock(tmp_path, later)
        change(tmp_path / "a")
    (tmp_path / "c").replace(tmp_path / "a")  # of the same size and time
    assert stamp.is_current()
    assert reads == [str(tmp_path / "a")]
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
    assert (File(file).identity(), LargeFile(file).identity(), Product(file).identity()) == (None, "absent", None)
    file.write_text("one")
    before = File(file).identity(), LargeFile(file).identity()
    os.utime(file, (0, 0))
    assert (File(file).identity(), LargeFile(file).identity()) == (before[0], "3:0")
    stamp = make(tmp_path)
    whole = Product(stamp.path).identity()
    assert list(whole) == ["a", "below/b"]
    damage(tmp_path / "a", "change")
    assert Product(stamp.path).identity() is None
    make(tmp_path, {"other": "inputs"})
    assert Product(stamp.path).identity() == whole


def test_another_step_changes_an_output(tmp_path):
    stamp = make(tmp_path)
    with changing(stamp.path, ["a"]):
        assert read_outputs(stamp.path)["a"] is None
        assert wrong_outputs(stamp.path) == [tmp_path / "a"]  # not to be skipped
        expect_right(stamp.path, "x")  # but whole
        write(tmp_path / "a", "changed\n")
        write(tmp_path / "c", "not an output\n")
    assert stamp.is_current()
    assert list(read_outputs(stamp.path)) == ["a", "below/b"]
    with pytest.raises(RuntimeError), changing(stamp.path, ["a", "below/b"]):
        write(tmp_path / "a", "again\n")
        raise RuntimeError
    assert wrong_outputs(stamp.path) == [tmp_path / "a", tmp_path / "below/b"]
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
