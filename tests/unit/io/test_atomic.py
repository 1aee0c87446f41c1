import os
import subprocess
import sys
from pathlib import Path

import pytest

from asrkit.io.atomic import LOCK_NAME, atomic_dir, atomic_write, recording, remove_leftovers
from asrkit.io.lock import lock_dir, lock_file
from asrkit.io.processes import HOST, start_time


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


KILLED = (
    "import os, sys; from asrkit.io.atomic import atomic_dir, atomic_write\n"
    "with {}(sys.argv[1]) as it:\n    {}; os.kill(os.getpid(), 9)\n"
)


@pytest.mark.parametrize(
    "code",
    [KILLED.format("atomic_write", "it.write('half'); it.flush()"), KILLED.format("atomic_dir", "(it / 'a').touch()")],
)
@pytest.mark.parametrize("name", ["file", "x" * 250])
def test_a_killed_writer_leaves_what_was_there_and_the_next_owner_tidies_up(tmp_path, code, name):
    (tmp_path / name).write_text("old")
    assert subprocess.run([sys.executable, "-c", code, tmp_path / name]).returncode == -9
    assert (tmp_path / name).read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    with lock_file(tmp_path / "other", "score"):
        assert len(os.listdir(tmp_path)) == 3
    with lock_file(tmp_path / name, "score"):
        pass
    assert os.listdir(tmp_path) == [name]


def test_what_a_killed_process_left_beside_a_directory_goes_when_it_is_locked(tmp_path):
    code = KILLED.format("atomic_dir", "(it / 'a').touch()")
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "dir"]).returncode == -9
    assert len(os.listdir(tmp_path)) == 1
    with lock_dir(tmp_path / "dir", "prepare"):
        pass
    assert os.listdir(tmp_path) == []


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    living, started = os.getppid(), start_time(os.getppid())
    kept = [
        f".file.tmp-{HOST}-{living}-{started}-00",
        f".file.tmp-{HOST}x-{living}-{started}-00",  # another machine's
        f".file.tmp-{HOST}-{living}-{started}",  # not of our making
        f"file.tmp-{HOST}-999999999-1-00",
        f".a.tmp-{HOST}-{10**30}-1-00",
        f".b.tmp-{HOST}-²-1-00",
        ".c.tmp-elsewhere-999999999-1-00",
    ]
    gone = [f".file.tmp-{HOST}-999999999-1-00", f".other.tmp-{HOST}-{living}-1-ff"]  # the number's process before
    for name in kept + gone:
        (tmp_path / name).touch()
    directory = tmp_path / f".directory.tmp-{HOST}-999999999-1-00"
    (directory / "below").mkdir(parents=True)
    with lock_dir(tmp_path, "extract"), atomic_write(tmp_path / "file"):
        remove_leftovers(tmp_path)  # what is being written here
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "file"])


def test_a_process_whose_end_its_parent_did_not_ask_for_has_ended(tmp_path):
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / f".file.tmp-{HOST}-{process.pid}-{start_time(process.pid)}-00").touch()
        with lock_dir(tmp_path, "extract"):
            pass
        assert os.listdir(tmp_path) == []


def test_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_write(tmp_path / "file") as first, atomic_write(tmp_path / "file") as second:
        first.write("first")
        second.write("second")
        assert len(os.listdir(tmp_path)) == 2
    assert (tmp_path / "file").read_text() == "first"  # whose block ended last


def test_the_old_directory_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "old").touch()
    (tmp_path / "dir" / LOCK_NAME).touch()
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if calls.count(tmp_path / "dir") == 1 and calls[-1] == tmp_path / "dir":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError), atomic_dir(tmp_path / "dir"):
        pass
    assert os.listdir(tmp_path) == ["dir"]
    assert sorted(os.listdir(tmp_path / "dir")) == [LOCK_NAME, "old"]


def test_a_link_to_a_directory_stays_one(tmp_path):
    (tmp_path / "elsewhere" / "dir").mkdir(parents=True)
    (tmp_path / "elsewhere" / "dir" / "stale").touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "dir")
    with recording() as record, atomic_dir(link) as new:
        assert new.parent == tmp_path / "elsewhere"  # a rename does not lead to another disk
        with atomic_write(new / "fresh") as stream:
            stream.write("fresh")
    assert link.is_symlink()
    assert os.listdir(tmp_path / "elsewhere") == ["dir"]
    assert os.listdir(link) == ["fresh"]
    assert list(record) == [link / "fresh"]


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


def test_a_directory_is_listed_once(tmp_path, monkeypatch):
    """Or the cost of files in it would grow with the square of their number."""
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(os.fspath(path)) or scandir(path))
    with lock_dir(tmp_path, "transcribe"):
        for number in range(5):
            with atomic_write(tmp_path / str(number)):
                pass
    assert sorted(map(str, listed)) == sorted([str(tmp_path), str(tmp_path.parent)])


@pytest.mark.parametrize("path", [".", "/", "..", "directory", "pipe", "link to pipe", "standard output"])
def test_what_is_no_file_is_not_replaced(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("directory").mkdir()
    os.mkfifo("pipe")
    Path("link to pipe").symlink_to("pipe")
    Path("standard output").symlink_to("/proc/self/fd/1")  # as /dev/stdout is, also where that is a file
    before = [(entry.name, entry.inode()) for entry in os.scandir()]
    for write in (atomic_write(path), lock_file(path, "score")):
        with pytest.raises(OSError) as caught, write:
            raise AssertionError("begun")
        assert caught.value.filename == path
    assert [(entry.name, entry.inode()) for entry in os.scandir()] == before


@pytest.mark.parametrize("target", ["file", "none"])
def test_links_to_files_are_replaced(tmp_path, target):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / target)
    with lock_file(tmp_path / "link", "score"), atomic_write(tmp_path / "link") as stream:
        stream.write("text")
    assert (tmp_path / "link").read_text() == "text"
