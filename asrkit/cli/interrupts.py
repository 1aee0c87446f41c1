"""The signals that end a command: Ctrl-C, `kill`, and a terminal that closes. All of them do what Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


def catch() -> None:
    """From now on the first of these signals raises KeyboardInterrupt, and the next one ends the process at once.

    A signal that this process was told to ignore stays ignored: nohup does so, and shells for background jobs.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    for each in _SIGNALS:
        if signal.getsignal(each) == _interrupt:
            signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt


def was_interrupted() -> bool:
    """Whether such a signal came. What it raised may have become another exception, or none, inside of an import."""
    return bool(_received)


def exit_status() -> int:
    """By convention, 128 and the signal's number: 130 for Ctrl-C, 143 for `kill`."""
    return 128 + (_received or [signal.SIGINT])[0]


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Put these signals off until the block, which takes little time, is done."""
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])
