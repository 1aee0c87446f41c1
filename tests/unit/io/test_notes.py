import os
import shutil
import threading
from functools import partial

import pytest

from asrkit.io import notes as notes_module
from asrkit.io.notes import Notes, forget, notes_path
from asrkit.parallel import map_in_threads


class Looks:
    """Looks at files that are noted in `directory`: each gives the content of all, and says which were read."""

    def __init__(self, directory):
        self.directory, self.read = directory, []

    def find(self, path):
        self.read.append(os.path.basename(path))
        with open(path) as stream:
            return stream.read()

    def notes(self):
        return Notes(notes_path(self.directory, "content"), self.find)

    def __call__(self, *names):
        self.read.clear()
        notes = self.notes()
        found = [notes.of(self.directory / name) for name in names]
        notes.save()
        return found, list(self.read)


@pytest.fixture
def looks(tmp_path, monkeypatch):
    monkeypatch.setattr(notes_module, "_WORTH_KEEPING", 0)
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    return Looks(tmp_path)


def settle(looks, *names):
    """Look until nothing is read: what was written just before the notes is read again, as their clock is coarse."""
    while looks(*names)[1]:
        pass


def replace_with_equal_size_and_time(path, text):
    status = path.stat()
    other = path.with_name("other")
    other.write_text(text)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def write_in_place_and_set_time_back(path, text):
    status = path.stat()
    path.write_text(text)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "now"),
    [
        (lambda path: os.utime(path, (0, 0)), "one"),
        (lambda path: path.write_text("else"), "else"),
        (partial(replace_with_equal_size_and_time, text="two"), "two"),
        (partial(write_in_place_and_set_time_back, text="two"), "two"),
        (lambda path: path.unlink(), None),
    ],
    ids=["touch", "write", "replace", "set back", "remove"],
)
def test_only_what_changed_is_read_again(looks, change, now):
    assert looks("a", "b") == (["one", "two"], ["a", "b"])
    settle(looks, "a", "b")
    assert looks("a", "b") == (["one", "two"], [])
    change(looks.directory / "a")
    assert looks("a", "b") == ([now, "two"], ["a"] if now else [])
    settle(looks, "a", "b")
    assert looks("a", "b") == ([now, "two"], [])


def test_a_change_while_the_clock_stands_still_is_seen(looks):
    looks("a", "b")
    latest = max((looks.directory / name).stat().st_ctime_ns for name in "ab")
    kept = notes_path(looks.directory, "content")
    os.utime(kept, ns=(latest, latest))  # as when all was written within one tick
    assert set(looks("a", "b")[1]) & {"a", "b"}
    os.utime(kept, ns=(latest + 1, latest + 1))
    assert looks("a", "b")[1] == []


def test_a_renamed_tree_is_not_read_again_and_a_copy_is(looks, tmp_path):
    here, there, copy = (tmp_path / name for name in ("here", "there", "copy"))
    (here / "data").mkdir(parents=True)
    (here / "audio").mkdir()
    (here / "audio" / "a").write_text("one")
    settle(Looks(here / "data"), "../audio/a")
    shutil.copytree(here, copy)
    here.rename(there)
    assert Looks(there / "data")("../audio/a") == (["one"], [])
    assert Looks(copy / "data")("../audio/a") == (["one"], ["a"])


def test_few_bytes_are_read_each_time_and_leave_no_file(looks, monkeypatch):
    monkeypatch.setattr(notes_module, "_WORTH_KEEPING", 6)
    for _ in range(2):
        assert looks("a", "b")[1] == ["a", "b"]
    assert sorted(path.name for path in looks.directory.iterdir()) == ["a", "b"]
    (looks.directory / "a").write_text("longer")
    assert looks("a", "b")[1] == ["a", "b"]
    assert notes_path(looks.directory, "content").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b'{"a": 1}', b'{"a": []}', b'{"a": [3, 1, 1, 1, 5]}', b'{"a": "text", "b": {}}', b"[" * 9999],
)
def test_damaged_notes_are_none(looks, content):
    settle(looks, "a", "b")
    notes_path(looks.directory, "content").write_bytes(content)
    assert looks("a", "b") == (["one", "two"], ["a", "b"])


def test_what_cannot_be_read_has_no_value(looks):
    os.mkfifo(looks.directory / "fifo")
    (looks.directory / "folder").mkdir()
    notes = looks.notes()
    assert [notes.of(looks.directory / name) for name in ("fifo", "folder", "missing", "nul\0", "a")] == [
        *[None] * 4,
        "one",
    ]
    notes = Notes(notes_path(looks.directory / "none", "content"), looks.find)
    assert notes.of(looks.directory / "b") == "two"
    notes.save()
    assert not (looks.directory / "none").exists()


def test_all_at_once_in_threads(looks):
    for number in range(50):
        (looks.directory / f"{number}").write_text(f"text {number}")
    files = [str(looks.directory / f"{number}") for number in range(50)]
    notes, threads = looks.notes(), set()
    gate = threading.Barrier(2, timeout=60)

    def in_two_threads(find, new):
        def one(file):
            if file in files[:2]:
                gate.wait()
            threads.add(threading.get_ident())
            return find(file)

        return map_in_threads(one, new, 2)

    notes.find_all([*files, *files, str(looks.directory / "missing")], in_two_threads)
    assert len(looks.read) == 50 and len(threads) == 2
    assert [notes.of(file) for file in files] == [f"text {number}" for number in range(50)]
    assert len(looks.read) == 50


def test_forgotten_notes_are_made_again(looks):
    settle(looks, "a")
    forget(looks.directory, "content", "others")
    assert looks("a") == (["one"], ["a"])
