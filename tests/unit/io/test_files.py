"""Errors of the system name the file, whoever reads or writes it."""

import ast
import errno
import os
import resource
from pathlib import Path

import pytest

import asrkit
from asrkit.io.atomic import atomic_dir, atomic_write
from asrkit.io.files import NamedFile, Naming, open_file, read_bytes, writer

PACKAGE = Path(asrkit.__file__).parent
FULL = Path("/dev/full")  # a device that is always full
UNREADABLE = Path("/proc/self/mem")  # its first bytes are no memory of ours: EIO
needs_devices = pytest.mark.skipif(not (FULL.exists() and UNREADABLE.exists()), reason="needs Linux's /dev and /proc")


def read_lines(stream):
    return [*stream]


@needs_devices
@pytest.mark.parametrize("read", [lambda s: s.read(), lambda s: s.read(10), lambda s: s.peek(1), read_lines])
def test_a_file_that_cannot_be_read_is_named(read):
    with pytest.raises(OSError) as caught, open_file(UNREADABLE) as stream:
        read(stream)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(UNREADABLE))


@needs_devices
def test_a_number_has_the_name_that_it_is_given_and_stays_open():
    descriptor = os.open(UNREADABLE, os.O_RDONLY)
    with pytest.raises(OSError) as caught, open_file(descriptor, "standard input") as stream:
        stream.read()
    assert caught.value.filename == "standard input"
    os.close(descriptor)  # raises when it is closed already


@needs_devices
@pytest.mark.parametrize(("mode", "content"), [("w", "text"), ("wb", b"bytes"), ("wb", bytes(10**6))])
@pytest.mark.parametrize("end", ["flush", "close"])
def test_a_file_that_cannot_be_written_is_named(mode, content, end):
    stream = writer(NamedFile(FULL, "wb", "its name"), mode)
    with pytest.raises(OSError) as caught:
        stream.write(content)
        getattr(stream, end)()
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "its name")


def test_a_name_that_is_there_stays(tmp_path):
    with pytest.raises(OSError) as caught, Naming("another"):
        read_bytes(tmp_path / "none")
    assert caught.value.filename == str(tmp_path / "none")


class Small:
    """A block in which no file gets larger than 100 bytes: a write ends in the middle, and the next fails."""

    def __enter__(self):
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, self._limits[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)


def write_in_words(stream):
    """As libraries do that make an error of their own of one in between."""
    try:
        stream.write("a" * 1000)
        stream.flush()
    except OSError:
        raise RuntimeError("failed writing") from None


def save_tensors(path):
    import torch

    from asrkit.training.checkpoint import save

    save(path, {"weights": torch.zeros(1000)})


def draw(path):
    from asrkit.reporting.figures import draw_reliability

    draw_reliability(path, {"none": []})


def in_words(path):
    with atomic_write(path) as stream:
        write_in_words(stream)


def in_a_directory(path):
    with atomic_dir(path.parent / "dir") as new, atomic_write(new / "file") as stream:
        stream.write("a" * 1000)


@pytest.mark.parametrize("write", [in_words, in_a_directory, save_tensors, draw])
def test_what_is_written_whole_or_not_at_all_is_named_by_its_last_name(tmp_path, write):
    path = tmp_path / ("dir/file" if write is in_a_directory else "file")
    path.parent.mkdir(exist_ok=True)
    path.write_text("old")
    before = sorted(tmp_path.rglob("*"))
    with Small(), pytest.raises(OSError) as caught:
        write(tmp_path / "file")
    assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (errno.EFBIG, str(path), None)
    assert path.read_text() == "old"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_that_cannot_be_written_is_named_by_its_last_name(tmp_path):
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "file") as stream:
        stream.write("text")
        (tmp_path / "file").mkdir()  # meanwhile
    assert caught.value.filename == caught.value.filename2 == str(tmp_path / "file")
    name = "x" * 300
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / name) as stream:
        stream.write("text")
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, str(tmp_path / name))


# What opens files, or writes to a path, without io/files.py.
OPENERS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "fromfile", "tofile", "memmap", "savetxt"}
MAY = {
    "io/processes.py",  # reads what the kernel says of processes, and does without
    "reporting/html/page.py",  # these two read pages of the package's own
    "serve/app.py",
}


def test_files_are_opened_in_one_place():
    """`X.open(...)` of an object of ours opens none, nor does os.open, whose users name what they do with numbers."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        ours = {alias.asname or alias.name for node in imports for alias in node.names}
        for call in (node.func for node in ast.walk(tree) if isinstance(node, ast.Call)):
            is_function = isinstance(call, ast.Name) and call.id in OPENERS - ours
            if is_function or (isinstance(call, ast.Attribute) and call.attr in OPENERS - {"open"}):
                found.append((path.relative_to(PACKAGE).as_posix(), call.lineno))
    assert {file for file, _ in found} == MAY, found  # it finds those
