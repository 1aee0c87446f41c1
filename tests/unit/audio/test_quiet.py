"""What C libraries print is not seen, and what Python prints is, in any thread."""

import ctypes
import os
import platform
import threading

import pytest

from asrkit.audio.quiet import quiet_c_library

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def say(text: str) -> None:
    """Print by C's `stderr`, as libmpg123 does; the reason that perror adds is cut off by the tests."""
    ctypes.CDLL(None).perror(text.encode())


def test_only_what_the_c_library_prints_is_lost(capfd):
    say("before")
    with quiet_c_library():
        say("lost")
        os.write(2, b"kept\n")
        with quiet_c_library():
            say("lost, too")
        say("lost still")
    say("after")
    lines = [line.partition(":")[0] for line in capfd.readouterr().err.splitlines()]
    assert lines == ["before", "kept", "after"]


def test_from_many_threads(capfd):
    def work():
        for _ in range(300):
            with quiet_c_library():
                say("lost")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert capfd.readouterr().err == ""
    say("after")
    assert capfd.readouterr().err.startswith("after")


def test_an_error_ends_it(capfd):
    with pytest.raises(ZeroDivisionError), quiet_c_library():
        raise ZeroDivisionError
    say("after")
    assert capfd.readouterr().err.startswith("after")
