import os
import subprocess
import sys

import pytest

from asrkit.io.atomic import atomic_dir, atomic_write
from asrkit.io.stamp import fingerprint, is_current, write_stamp


class Interrupted(Exception):
    pass


def test_a_file_appears_only_when_whole(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_write(path) as stream:
        stream.write("one\n")
        assert not path.exists()
    assert path.read_text() == "one\n"


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, mode):
    (tmp_path / "file").write_text("old")
    with pytest.raises(Interrupted), atomic_write(tmp_path / "file", mode) as stream:
        stream.write("half" if mode == "w" else b"half")
        raise Interrupted
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    code = (
        "import os, sys; from asrkit.io.atomic import atomic_write\n"
        "with atomic_write(sys.argv[1]) as stream:\n"
        "    stream.write('half'); stream.flush(); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "file"]).returncode == -9
    assert (tmp_path / "file").read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    with atomic_write(tmp_path / "file") as stream:
        stream.write("new")
    assert os.listdir(tmp_path) == ["file"]  # what the killed one left is gone


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    mine = tmp_path / f".file.tmp-{os.uname().nodename}-{os.getppid()}"
    elsewhere = tmp_path / ".file.tmp-another.machine-999999999"
    for other in (mine, elsewhere):
        other.touch()
    with atomic_write(tmp_path / "file"):
        pass
    assert mine.exists()
    assert elsewhere.exists()


def test_a_directory_is_replaced_whole(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "stale").touch()
    with pytest.raises(Interrupted), atomic_dir(tmp_path / "dir") as new:
        (new / "fresh").touch()
        raise Interrupted
    assert os.listdir(tmp_path / "dir") == ["stale"]
    with atomic_dir(tmp_path / "dir") as new:
        (new / "fresh").touch()
    assert os.listdir(tmp_path / "dir") == ["fresh"]
    assert os.listdir(tmp_path) == ["dir"]


def test_a_stamp_is_current_for_the_same_inputs_and_existing_outputs(tmp_path):
    stamp, output = tmp_path / "stamp", tmp_path / "output"
    inputs = {"rate": 0.1, "files": ["a", "b"]}
    assert not is_current(stamp, inputs)
    write_stamp(stamp, inputs)
    assert is_current(stamp, dict(reversed(inputs.items())))
    assert not is_current(stamp, inputs, [output])
    output.touch()
    assert is_current(stamp, inputs, [output])
    assert not is_current(stamp, inputs | {"rate": 0.2})
    assert fingerprint(inputs) != fingerprint(inputs | {"files": ["b", "a"]})


def test_a_damaged_stamp_is_not_current(tmp_path):
    (tmp_path / "stamp").write_bytes(b"\xff\xfe")
    assert not is_current(tmp_path / "stamp", {})


def test_a_directory_is_listed_once(tmp_path, monkeypatch):
    """Or the cost of files in it would grow with the square of their number."""
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.fspath(path)) or scandir(path))
    for number in range(5):
        with atomic_write(tmp_path / str(number)):
            pass
    assert listed.count(str(tmp_path)) == 1


def test_what_killed_writers_left_is_removed_whatever_its_name(tmp_path):
    mark = f".tmp-{os.uname().nodename}-"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".another{mark}{dead.pid}").touch()
    (tmp_path / f".directory{mark}{dead.pid}" / "below").mkdir(parents=True)
    kept = [f".a{mark}{os.getppid()}", f".b{mark}{10**30}", f".c{mark}x", f".d{mark}²", ".e.tmp-elsewhere-1"]
    for name in kept:
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "file"])


def test_what_this_process_could_not_clean_up_is_replaced(tmp_path):
    for name in ("file", "dir"):
        (tmp_path / f".{name}.tmp-{os.uname().nodename}-{os.getpid()}" / "below").mkdir(parents=True)
    with atomic_write(tmp_path / "file"):
        pass
    with atomic_dir(tmp_path / "dir"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["dir", "file"]
