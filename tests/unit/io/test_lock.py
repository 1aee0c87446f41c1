import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from asrkit.errors import InUseError
from asrkit.io import lock as lock_module
from asrkit.io.atomic import LOCK_NAME, atomic_dir, atomic_write
from asrkit.io.lock import _Owner, lock_dir, lock_file
from asrkit.io.processes import HOST
from asrkit.io.stamp import Stamp
from asrkit.parallel import make_executor

# Locks argv[1], says so, and goes on when it is told to.
HOLD = """
import sys
from asrkit.io.lock import lock_dir
with lock_dir(sys.argv[1], "extract"):
    print("locked", flush=True)
    sys.stdin.readline()
"""
# The same, without locks of the kernel's, as on some network file systems.
NO_FLOCK = """
import errno, fcntl
def flock(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
"""
# The same, with a worker that says that it works, and does so for ever.
HOLD_WITH_WORKER = """
import sys, time
from asrkit.io.lock import lock_dir
from asrkit.parallel import make_executor
if __name__ == "__main__":
    with lock_dir(sys.argv[1], "extract"), make_executor(1, isolate=True) as executor:
        print(executor.submit(eval, "__import__('os').getpid()").result(), flush=True)
        sys.stdin.readline()
"""


@contextlib.contextmanager
def other_process(code, directory):
    """A process that runs `code`, once it has printed its first line."""
    with subprocess.Popen(
        [sys.executable, "-c", code, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.line = process.stdout.readline().strip()
        try:
            yield process
        finally:
            process.kill()


def try_to_lock(directory):
    """What another process is told that wants the lock: None when it gets it."""
    code = (
        "import sys; from asrkit.errors import InUseError; from asrkit.io.lock import lock_dir\n"
        "try:\n    with lock_dir(sys.argv[1], 'train'): pass\n"
        "except InUseError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, directory], capture_output=True, text=True, check=True)
    return done.stdout.strip() or None


def without_flock(monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize("prelude", ["", NO_FLOCK])
def test_one_process_at_a_time_has_a_directory(tmp_path, monkeypatch, prelude):
    if prelude:
        without_flock(monkeypatch)
    with other_process(prelude + HOLD, tmp_path) as process:
        assert process.line == "locked"
        with pytest.raises(InUseError) as refused, lock_dir(tmp_path, "extract"):
            pass
        killed = f"; if it was killed, remove {tmp_path}/{LOCK_NAME}.owner" if prelude else ""
        assert re.fullmatch(
            rf"{tmp_path}: in use by process {process.pid} on {HOST} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d "
            rf"\(extract\); wait for it to end, or end it \(kill {process.pid}\){killed}",
            str(refused.value),
        )
        process.communicate("\n")
        assert process.returncode == 0
    with lock_dir(tmp_path, "extract"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("prelude", ["", NO_FLOCK])
def test_what_a_killed_process_had_is_free(tmp_path, monkeypatch, prelude):
    if prelude:
        without_flock(monkeypatch)
    with other_process(prelude + HOLD, tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert LOCK_NAME in os.listdir(tmp_path)
        with lock_dir(tmp_path, "extract"):
            assert _Owner.read(tmp_path / LOCK_NAME if not prelude else tmp_path / f"{LOCK_NAME}.owner").process == (
                os.getpid()
            )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("prelude", ["", NO_FLOCK])
def test_what_is_up_to_date_loses_the_locks_of_killed_processes_alone(tmp_path, monkeypatch, prelude):
    directory, stamp = tmp_path / "set", Stamp(tmp_path / "set" / ".step.stamp", {})
    with stamp.making(), atomic_write(tmp_path / "other" / "file") as stream:
        stream.write("text")
    if prelude:
        without_flock(monkeypatch)
    for place in (tmp_path, directory, tmp_path / "other"):
        with other_process(prelude + HOLD, place) as process:
            assert stamp.is_current()
            assert (place / LOCK_NAME).exists()
            process.kill()
            process.wait()
        temporary = place / f".file.tmp-{HOST}-{process.pid}-0-1234abcd"
        temporary.mkdir()
        assert stamp.is_current()
        assert not [path for path in place.iterdir() if path.name.startswith((LOCK_NAME, ".file"))]
    file_lock = tmp_path / "set" / f".step{LOCK_NAME}"
    file_lock.touch()
    assert stamp.is_current()
    assert not file_lock.exists()


def test_a_lock_lasts_while_workers_of_a_killed_process_live(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "_SECONDS_TO_END", 0.0)
    with other_process(HOLD_WITH_WORKER, tmp_path) as process:
        worker = int(process.line)
        os.kill(worker, signal.SIGSTOP)  # it would end when it sees that its parent has
        while Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)  # its threads stop one by one
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        try:
            with pytest.raises(InUseError) as refused, lock_dir(tmp_path, "extract"):
                pass
            assert f"process {process.pid} (extract) has ended, but a process that it started still" in str(
                refused.value
            )
        finally:
            os.kill(worker, signal.SIGCONT)
        monkeypatch.setattr(lock_module, "_SECONDS_TO_END", 60.0)
        with lock_dir(tmp_path, "extract"):  # waits until the worker has ended
            pass


def test_a_lock_ends_with_its_block_though_workers_live(tmp_path):
    with make_executor(1, isolate=True) as executor:
        with lock_dir(tmp_path, "extract"):
            executor.submit(os.getpid).result()
        with lock_dir(tmp_path, "train"):
            pass


def test_a_thread_may_lock_again_and_another_may_not(tmp_path):
    found = []

    def from_thread():
        try:
            with lock_dir(tmp_path, "decode"):
                found.append("locked")
        except InUseError as error:
            found.append(str(error))

    with lock_dir(tmp_path, "train"):
        with lock_dir(tmp_path, "export"):
            pass
        thread = threading.Thread(target=from_thread)
        thread.start()
        thread.join()
    assert f"in use by process {os.getpid()}" in found[0]
    assert found[0].endswith("(train); that is this process; wait for that call to return")
    from_thread()
    assert found[1] == "locked"


def test_a_forked_child_does_not_have_its_parents_lock(tmp_path):
    with lock_dir(tmp_path, "train"):
        child = os.fork()
        if not child:
            status = 1
            try:
                with lock_dir(tmp_path, "train"):
                    pass
            except InUseError:
                status = 0
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_directory_is_made_and_goes_away_when_nothing_came_of_it(tmp_path):
    with lock_dir(tmp_path / "a" / "b", "report"):
        pass
    assert os.listdir(tmp_path) == []
    with lock_dir(tmp_path / "a" / "b", "report"):
        (tmp_path / "a" / "b" / "report.txt").touch()
    assert os.listdir(tmp_path / "a" / "b") == ["report.txt"]
    with contextlib.suppress(RuntimeError), lock_dir(tmp_path / "c", "report"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["a"]


def test_files_of_a_directory_are_locked_one_by_one(tmp_path):
    with lock_file(tmp_path / "a.arpa", "train-lm"), lock_file(tmp_path / "b.arpa", "train-lm"):
        thread_saw = []

        def from_thread():
            with pytest.raises(InUseError) as refused, lock_file(tmp_path / "a.arpa", "train-lm"):
                pass
            thread_saw.append(str(refused.value))

        thread = threading.Thread(target=from_thread)
        thread.start()
        thread.join()
        assert thread_saw[0].startswith(f"{tmp_path}/a.arpa: in use by process {os.getpid()} ")
    assert os.listdir(tmp_path) == []


def test_a_lock_can_be_waited_for(tmp_path, capfd):
    order = []

    def second():
        with lock_file(tmp_path / "x", "train", wait=True):
            order.append("second")

    with lock_file(tmp_path / "x", "train"):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting" not in capfd.readouterr().err:
            pass
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("has_flock", [True, False])
def test_a_replaced_directory_stays_locked(tmp_path, monkeypatch, has_flock):
    def link(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as file systems do that have no hard links

    monkeypatch.setattr(os, "link", link)
    if not has_flock:
        without_flock(monkeypatch)
    with lock_dir(tmp_path / "d", "prepare"):
        with atomic_dir(tmp_path / "d") as new:
            (new / "text").touch()
        assert "in use by process" in try_to_lock(tmp_path / "d")
    assert os.listdir(tmp_path) == ["d"]
    assert os.listdir(tmp_path / "d") == ["text"]
    assert try_to_lock(tmp_path / "d") is None


@pytest.mark.parametrize(
    ("change", "is_free"),
    [
        ({"process": 2**22 + 1}, True),  # more than there can be
        ({"start": "1"}, True),  # the number of a process that has ended was given to this one
        ({}, False),  # lives
        ({"machine": "another"}, False),  # cannot be known
        ({"machine": "another", "process": 2**22 + 1, "host": "node7"}, False),
    ],
)
def test_owners_that_are_gone_are_told_from_others_without_flock(tmp_path, monkeypatch, change, is_free):
    without_flock(monkeypatch)
    parent = replace(_Owner.me("tune"), process=os.getppid(), start=lock_module.start_time(os.getppid()))
    owner = replace(parent, **change)
    file = tmp_path / f"{LOCK_NAME}.owner"
    file.write_text(json.dumps(asdict(owner)))
    if is_free:
        with lock_dir(tmp_path, "extract"):
            assert _Owner.read(file).process == os.getpid()
        assert os.listdir(tmp_path) == []
        return
    with pytest.raises(InUseError) as refused, lock_dir(tmp_path, "extract"):
        pass
    assert f"in use by process {owner.process} on {owner.host} since {owner.since} (tune); wait" in str(refused.value)
    assert str(refused.value).endswith(f"; if it was killed, remove {file}")
    file.unlink()  # the remedy
    with lock_dir(tmp_path, "extract"):
        pass


def test_another_may_be_quicker(tmp_path, monkeypatch):
    """With or without locks of the kernel's, between two steps of the one who is slower."""
    flock, rename, file = fcntl.flock, os.rename, tmp_path / f"{LOCK_NAME}.owner"

    def flock_late(descriptor, operation):
        if not operation & fcntl.LOCK_UN:
            monkeypatch.setattr(fcntl, "flock", flock)
            (tmp_path / LOCK_NAME).unlink()  # as the one does who had the lock before
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with lock_dir(tmp_path, "extract"):
        assert "in use by process" in try_to_lock(tmp_path)

    def rename_late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        file.write_text(json.dumps(asdict(living)))
        rename(source, target)

    living = replace(_Owner.me("tune"), process=os.getppid(), start=lock_module.start_time(os.getppid()))
    file.write_text(json.dumps(asdict(replace(living, start="1"))))
    without_flock(monkeypatch)
    monkeypatch.setattr(os, "rename", rename_late)
    with pytest.raises(InUseError, match=f"in use by process {living.process} "), lock_dir(tmp_path, "extract"):
        pass
    assert _Owner.read(file) == living


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"process": "1"}', b"[" * 100_000, b'{"pid": 1}'])
def test_a_damaged_file_of_an_owner_names_nobody(tmp_path, monkeypatch, content):
    monkeypatch.setattr(lock_module, "_SECONDS_TO_WRITE", 0.0)
    without_flock(monkeypatch)
    file = tmp_path / f"{LOCK_NAME}.owner"
    file.write_bytes(content)
    with pytest.raises(InUseError) as refused, lock_dir(tmp_path, "extract"):
        pass
    assert str(refused.value) == (
        f"{tmp_path}: in use by another process; wait for it to end; when none runs, remove {file}"
    )


def test_a_lock_of_a_machine_without_flock_counts_where_there_is_flock(tmp_path):
    file = tmp_path / f"{LOCK_NAME}.owner"
    file.write_text(json.dumps(asdict(replace(_Owner.me("tune"), machine="another", host="node7"))))
    with pytest.raises(InUseError, match="on node7 since"), lock_dir(tmp_path, "extract"):
        pass
    assert file.exists()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / LOCK_NAME).symlink_to(precious)
    with pytest.raises(OSError) as refused, lock_dir(tmp_path / "d", "extract"):
        pass
    assert refused.value.filename == str(tmp_path / "d" / LOCK_NAME)
    assert precious.read_text() == "precious"


def test_a_full_disk_does_not_keep_one_from_locking(tmp_path, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", write)
    with lock_dir(tmp_path, "extract"):
        assert "in use by another process" in try_to_lock(tmp_path)


def test_a_directory_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    if os.geteuid() == 0:  # may write everything
        real = os.open

        def refuse(path, flags, *args, **kwargs):
            if Path(path).name == LOCK_NAME:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return real(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        tmp_path.chmod(0o555)
    with pytest.raises(PermissionError) as refused, lock_dir(tmp_path, "extract"):
        pass
    assert refused.value.filename == str(tmp_path)


def test_a_lock_left_by_another_user_is_made_anew(tmp_path, monkeypatch):
    left = tmp_path / LOCK_NAME
    left.write_text(json.dumps(asdict(replace(_Owner.me("tune"), process=2**22 + 1))))
    inode, real = left.stat().st_ino, os.open

    def refuse(path, flags, *args, **kwargs):  # as for a file of mode 644 that is another's
        if Path(path) == left and flags & os.O_RDWR and left.exists() and left.stat().st_ino == inode:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(lock_module, "_SECONDS_BETWEEN_TRIES", 0.01)
    keep = real(left, os.O_RDONLY)  # so that the inode is not used again
    with lock_dir(tmp_path, "extract"):
        assert _Owner.read(left).process == os.getpid()
    os.close(keep)
    assert os.listdir(tmp_path) == []
