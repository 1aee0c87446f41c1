#!/usr/bin/env python3
"""How deep the calls of a command are, and over how many files they spread, until its first features are computed.

    tools/call_depth.py transcribe speech.wav --model EXP
    tools/call_depth.py train --config conf/blstm_ctc.yaml --train DATA/train --dev DATA/dev --tokens FILE --out NEW_DIR

It runs the command up to the first call that computes features (of the extractor's backend, or of what adds CMVN and
deltas to stored ones), prints the stack there, and ends the process. What the command has written by then stays.

- The depth is the number of asrkit's own calls on the stack, from `asrkit.cli.main.main` on, at the first features; the
  figure after it is that of the deepest call until then, whatever it does. A call that is handed to a thread continues
  the stack of whoever handed it over.
- The files are the modules of asrkit whose functions or methods have run by then, those that dataclasses generate
  included. What runs while modules are being imported does not count.

`--at-most N` gives exit status 1 when the depth is larger.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import CodeType, FrameType
from typing import Any

PACKAGE = "asrkit"
# What computes features first, by its qualified name in asrkit.features.
COMPUTING = {
    f"{backend}.{method}"
    for backend in ("NativeBackend", "NumpyBackend", "TorchaudioBackend", "LibrosaBackend")
    for method in ("static", "static_batch", "full", "full_features", "finished")
} | {"finish", "full_features"}

_above = threading.local()  # .depth: calls on the stack of whoever handed this thread its work


class Tracer:
    """A profile function (see sys.setprofile) that measures until the first features."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.deepest: list[str] = []
        self.depth = 0
        self.modules: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        module = _module(frame)
        if event != "call" or not module or _is_class_body(frame.f_code) or frame.f_code.co_name == "<module>":
            return
        stack = _stack(frame)
        if any(each.f_code.co_name == "<module>" for each in stack):
            return  # an import
        self.modules.add(module)
        depth = len(stack) + getattr(_above, "depth", 0)
        if depth > self.depth and frame.f_code.co_filename != "<string>":  # not what dataclasses generate
            self.depth, self.deepest = depth, list(map(_name, stack))
        if module.startswith(f"{PACKAGE}.features.") and frame.f_code.co_qualname in COMPUTING:
            self.report(stack, depth)
            os._exit(0 if self.most is None or depth <= self.most else 1)

    def report(self, stack: list[FrameType], depth: int) -> None:
        print("the first features are computed by", *map(_name, stack), sep="\n  ")
        print("the deepest call until then", *self.deepest, sep="\n  ")
        print(f"{depth} calls deep (at most {self.depth} until then) over {len(self.modules)} files", flush=True)


def _module(frame: FrameType) -> str:
    """The module of asrkit that a call belongs to, also where the code was generated (dataclasses); else ''."""
    name = frame.f_globals.get("__name__", "")
    return name if name.split(".")[0] == PACKAGE else ""


def _is_class_body(code: CodeType) -> bool:
    return not code.co_flags & inspect.CO_OPTIMIZED


def _name(frame: FrameType) -> str:
    return f"{frame.f_globals.get('__name__', '?')}: {frame.f_code.co_qualname}"


def _stack(frame: FrameType | None) -> list[FrameType]:
    """asrkit's calls from main (or from where a thread's work begins) on."""
    stack = []
    while frame is not None and frame.f_code is not _run.__code__:
        if _module(frame):
            stack.append(frame)
        frame = frame.f_back
    return stack[::-1]


def _run(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function`; stacks are counted from here on."""
    return function(*args, **kwargs)


class _JoiningExecutor(ThreadPoolExecutor):
    """Takes note of the depth at which work is handed over."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        depth = len(_stack(sys._getframe(1))) + getattr(_above, "depth", 0)

        def continued() -> Any:
            _above.depth = depth
            return _run(function, *args, **kwargs)

        return super().submit(continued)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--at-most", type=int, metavar="N", help="exit with 1 when the calls are deeper")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="VERB ...", help="what would follow `asrkit`")
    args = parser.parse_args()

    import concurrent.futures

    concurrent.futures.ThreadPoolExecutor = _JoiningExecutor  # type: ignore[misc]
    from asrkit.cli.main import main as asrkit

    tracer = Tracer(args.at_most)
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    status: int = _run(asrkit, args.command)
    sys.setprofile(None)
    print("no features were computed", file=sys.stderr)
    return status or 1


if __name__ == "__main__":
    sys.exit(main())
