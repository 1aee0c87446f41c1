"""The signals that end a command: Ctrl-C, `kill`, and a closed terminal. All of them act like Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


def catch() -> None:
    """Let the first of these signals raise KeyboardInterrupt, and the next one end the process immediately.

    If the process was started with a signal ignored, as by nohup and for background jobs of shells, it stays ignored.
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
    """Whether such a signal arrived.

    During an import, its KeyboardInterrupt can turn into another exception, or be lost.
    """
    return bool(_received)


def exit_status() -> int:
    """128 plus the number of the signal, by convention: 130 for Ctrl-C, 143 for `kill`."""
    return 128 + (_received or [signal.SIGINT])[0]


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Delay these signals until the end of a `with` block, which should take little time."""
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
