"""Changes of files are counted; a process is killed before one of them, or has no space for it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.limits import in_memory

# What changes files, and how often.
CHANGES = {
    "with atomic_write(new) as stream: stream.write('a')": 4,  # open, write, fsync, rename
    "with atomic_write(new) as stream: stream.write('a'); stream.flush(); stream.write('b')": 5,
    "os.mkdir(new); os.rmdir(new)": 2,
    "os.close(os.open(old, os.O_RDONLY)); os.stat(old); os.listdir('.'); print('text')": 0,
    "os.close(os.open(old, os.O_WRONLY))": 1,
    "os.link(old, new); os.symlink(old, other); os.truncate(old, 1); os.utime(old); os.chmod(old, 0o600)": 5,
    "os.chdir(directory); os.rename('old', 'new'); os.unlink('new')": 2,
    "os.mkdir(new); open(new / 'a', 'w').close(); shutil.rmtree(new)": 4,  # rmtree goes by open directories
    "subprocess.run(['touch', new])": 2,  # another process: open, set the time
    "(directory.parent / 'elsewhere').write_text('a')": 0,
    "soundfile.write(new, [0.0], 8000, format='WAV')": None,  # in a C library: some
}
PROGRAM = """
import errno, os, shutil, subprocess, sys
from pathlib import Path
import soundfile
from asrkit.io.atomic import atomic_write
from tests.faults.forked import Changes, main_with_changes


def run(**options):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    old.write_text("text")
    with changes.counted(**options) as count:
        pid = os.fork()
        if not pid:
            try:
                exec(statement)
                os._exit(0)
            except OSError as error:
                os._exit(error.errno)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, count.value

def main():
    global directory, changes, statement, old, new, other
    directory = Path(sys.argv.pop(1)) / "files"
    old, new, other = (directory / name for name in ("old", "new", "other"))
    changes = Changes(directory)
    for statement in sys.argv[1:]:
        status, total = run()
        assert status == 0
        killed = [run(kill_at=number) for number in range(1, total + 1)]
        full = [run(fail_at=number, error=errno.ENOSPC)[0] for number in range(1, total + 1)]
        print([total, killed, full])
    return 5

if __name__ == "__main__":
    sys.exit(main_with_changes(main, "program"))
"""


@pytest.mark.skipif(not shutil.which(os.environ.get("CC", "cc")), reason="no C compiler")
def test_each_change_is_counted_and_can_be_the_last(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}"}
    with tempfile.TemporaryDirectory(dir=in_memory()) as directory:
        command = [sys.executable, "-m", "program", directory, *CHANGES]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    lines = [line for line in done.stdout.splitlines() if line != "text"]
    for (statement, expected), line in zip(CHANGES.items(), lines, strict=True):
        total, killed, full = eval(line)
        assert total == expected or (expected is None and total >= 2), (statement, total)
        of_others = "subprocess" in statement  # whose end this one does not heed
        assert killed == [(0 if of_others else -9, at) for at in range(1, total + 1)], statement
        if "atomic_write" in statement:
            assert set(full) == {28}, (statement, full)
    assert "[2, [(-9, 1), (-9, 2)], [28, 0]]" in lines  # there is always room to remove something
