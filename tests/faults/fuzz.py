"""Damaged input for every parser: each either reads it or says in one line for each fault which file is wrong.

    python -m tests.faults fuzz --count 1000000 --seed 1             # of all parsers together
    python -m tests.faults fuzz --parser arpa --parser ctm --part 2/4
    python -m tests.faults fuzz --count 40000 --coverage             # slower; also the share of lines that were run

Right is an input that is read or refused by an AsrkitError whose every line names a file of it. Wrong is any other
exception, a Python warning, more than _MAX_SECONDS of CPU, more than _MAX_GROWTH of memory, a file that stays open, or
the end of the process. An input depends on the seed, the parser's name and the input's number alone, so parts can be
run at any time and a wrong one be made again: --show NUMBER writes it to a directory. Inputs that were wrong once are
in cases/PARSER; they are tried before all others and are damaged further, too.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import inspect
import mmap
import os
import pickle
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from asrkit.errors import AsrkitError
from tests.faults.limits import add_part, cpu_seconds, in_memory
from tests.faults.mutation import Files, damaged, made_up
from tests.faults.parsers import MODULES, PARSERS, ROOT, Parser

CASES = Path(__file__).parent / "cases"
_MAX_SECONDS = 5.0  # of CPU for one input of at most 32 KiB a file
_MAX_GROWTH = 2**28  # bytes of memory, of a process that has read some thousand inputs
_MAX_SPACE = 2**32  # of more addresses: what asks for more gets a MemoryError
_MEMORY_STEP = 50  # inputs between two looks at it, which some systems are slow to answer
_CHUNK = 5_000  # inputs that one process reads


@dataclass
class Result:
    """What became of the inputs of one parser.

    `wrong`: number of an input (negative: a case) and what happened. `slowest`: CPU-seconds of one. `lines`: those that
    were run, as (file, line).
    """

    tried: int = 0
    read: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    lines: set[tuple[str, int]] = field(default_factory=set)

    def add(self, other: Result) -> None:
        self.tried += other.tried
        self.read += other.read
        self.wrong += other.wrong
        self.slowest = max(self.slowest, other.slowest)
        self.lines |= other.lines


class _TooSlow(BaseException):
    pass


@functools.cache
def cases_of(parser: Parser) -> list[Files]:
    """The inputs that were wrong once: a file is a parser's only one, a directory holds several."""
    cases: list[Files] = []
    for path in sorted((CASES / parser.name).glob("*")):
        if path.is_dir():
            inner = sorted(each for each in path.rglob("*") if each.is_file())
            cases.append({each.relative_to(path).as_posix(): each.read_bytes() for each in inner})
        else:
            cases.append({**parser.seeds[0], parser.main: path.read_bytes()})
    return cases


def make_input(parser: Parser, seed: int, number: int) -> Files:
    """Input `number` of a parser; negative ones are the cases, from -1 on, as they are."""
    cases = cases_of(parser)
    if number < 0:
        return cases[-1 - number]
    rng = random.Random(f"{seed} {parser.name} {number}")
    pool = [*parser.seeds, *cases]
    files = dict(rng.choice(pool))
    names = sorted(files)
    for _ in range(rng.choice((1, 1, 1, 2))):
        name = rng.choice(names)
        if parser.is_text and rng.random() < 0.1:
            files[name] = made_up(rng, parser.words)
        else:
            others = [other[name] for other in pool if name in other]
            files[name] = damaged(files[name], rng, others, parser.words)
        if parser.repair is not None and rng.random() < 0.5:
            files[name] = parser.repair(files[name])
    if len(files) > 1 and rng.random() < 0.05:
        del files[rng.choice(names)]
    return files


class Directory:
    """A directory in memory that holds one input after the other; only what differs is written."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_prefix(os.getpid()), dir=in_memory()))
        self._held: Files = {}

    def fill(self, files: Mapping[str, bytes]) -> None:
        for name in self._held.keys() - files.keys():
            (self.path / name).unlink(missing_ok=True)
        for name, content in files.items():
            if self._held.get(name) != content:
                path = os.path.join(self.path, name)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # what is mapped into memory must not be cut short
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as stream:
                    stream.write(content)
        self._held = dict(files)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _prefix(process: int) -> str:
    """How the names of a process's directories begin."""
    return f"asrkit-fuzz-{process}-"


def judge(parser: Parser, directory: Path) -> tuple[bool, str | None]:
    """Whether the input in a directory was read, and what is wrong with how the parser took it."""
    try:
        parser.read(directory)
    except AsrkitError as error:
        for line in str(error).split("\n"):
            if str(directory) not in line:
                return False, f"{type(error).__name__} names no file: {line[:300]!r}"
        return False, None
    except _TooSlow:
        return False, f"more than {_MAX_SECONDS:g} s of CPU {_where(sys.exc_info()[1])}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return False, f"{type(error).__name__}: {str(error)[:200]} {_where(error)}"
    return True, None


def _where(error: BaseException | None) -> str:
    """The innermost line of asrkit in a traceback."""
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    ours = [frame for frame in frames if f"{os.sep}asrkit{os.sep}" in frame.filename]
    return f"at {os.path.relpath(ours[-1].filename, ROOT)}:{ours[-1].lineno}" if ours else "outside asrkit"


def _time_out(signum: int, frame: FrameType | None) -> None:
    raise _TooSlow


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Within it, warnings are errors, and a signal of the CPU's clock ends what is being read."""
    before = signal.signal(signal.SIGPROF, _time_out)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_inputs(parser: Parser, seed: int, numbers: Sequence[int], progress: Any = None) -> Result:
    """Read inputs in this process, up to the first that takes too much memory. `progress` takes their places."""
    result = Result()
    directory = Directory()
    gc.collect()  # else files that were dropped before could be closed meanwhile, and hide as many that stay open
    _forget_peak()  # else growth up to what was just freed would be hidden, too
    base, num_open = _peak(), _num_open()
    seconds = _MAX_SECONDS * (10 if sys.gettrace() else 1)
    try:
        with limits():
            for place, number in enumerate(numbers):
                if progress is not None:
                    progress[:8] = struct.pack("<q", place)
                directory.fill(make_input(parser, seed, number))
                began = time.process_time()
                signal.setitimer(signal.ITIMER_PROF, seconds)
                was_read, wrong = judge(parser, directory.path)
                signal.setitimer(signal.ITIMER_PROF, 0)
                result.slowest = max(result.slowest, time.process_time() - began)
                result.tried += 1
                result.read += was_read
                if wrong is not None:
                    result.wrong.append((number, wrong))
                is_asked = place % _MEMORY_STEP == _MEMORY_STEP - 1 or place == len(numbers) - 1
                if is_asked and (growth := _peak() - base) > _MAX_GROWTH:
                    result.wrong.append((number, f"memory grew by {growth // 2**20} MiB since {_MEMORY_STEP} inputs"))
                    break
        if _num_open() > num_open:
            gc.collect()
        if (still_open := _num_open() - num_open) > 0:
            result.wrong.append((numbers[0], f"{still_open} files stay open after this input or one that follows"))
    finally:
        directory.remove()
    return result


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _forget_peak() -> None:
    """Let the peak be what memory is in use now (Linux's proc(5), clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _num_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def try_apart(parser: Parser, seed: int, numbers: Sequence[int], with_lines: bool = False) -> Result:
    """Read inputs in other processes, of which one may end: by a signal, in a C library that does not come back."""
    result = Result()
    progress = mmap.mmap(-1, 8)
    while numbers:
        with tempfile.TemporaryFile() as report:
            process = os.fork()
            if process == 0:
                _serve(parser, seed, numbers, progress, report, with_lines)
            end = _wait(process, progress)
            report.seek(0)
            content = report.read()
        if end is None and content:
            part = pickle.loads(content)
        else:
            place = struct.unpack("<q", progress[:8])[0]
            part = Result(tried=place + 1, wrong=[(numbers[place], end or "the process ended")])
            for left in Path(in_memory() or tempfile.gettempdir()).glob(f"{_prefix(process)}*"):
                shutil.rmtree(left)
        result.add(part)
        numbers = numbers[part.tried :]
    return result


def _serve(
    parser: Parser, seed: int, numbers: Sequence[int], progress: mmap.mmap, report: Any, with_lines: bool
) -> None:
    """What the other process does; it does not come back."""
    status = 1
    try:
        # What this process already has in use, when it is forked from one with much in memory, does not count.
        taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _MAX_SPACE, taken + _MAX_SPACE))
        tracer = LineTracer(tuple(MODULES)) if with_lines else None
        if tracer is not None:
            sys.settrace(tracer)
        result = try_inputs(parser, seed, numbers, progress)
        sys.settrace(None)
        result.lines = tracer.lines if tracer is not None else set()
        pickle.dump(result, report)
        report.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _wait(process: int, progress: mmap.mmap) -> str | None:
    """How a process ended that did not end well. One that stays with an input and does not heed signals is ended."""
    place, since = -1, 0.0
    pause = 0.001
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            number = os.waitstatus_to_exitcode(status)
            return None if number == 0 else f"the process ended with status {number}"
        time.sleep(pause)
        pause = min(2 * pause, 0.2)
        now, cpu = struct.unpack("<q", progress[:8])[0], cpu_seconds(process)
        if now != place:
            place, since = now, cpu
        elif cpu - since > 20 * _MAX_SECONDS:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return f"more than {20 * _MAX_SECONDS:g} s of CPU in a library"


class LineTracer:
    """A trace function that notes lines of some modules' functions. One whose lines were all run costs little."""

    def __init__(self, modules: Sequence[str]) -> None:
        self._files = {str(ROOT / module): module for module in modules}
        self._left: dict[int, set[int] | None] = {}
        self._codes: list[CodeType] = []  # so that no other gets the same id
        self.lines: set[tuple[str, int]] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        key = id(code)
        if key not in self._left:
            self._codes.append(code)
            self._left[key] = set(code_lines(code)) if code.co_filename in self._files else None
        left = self._left[key]
        if not left:
            return None
        module, lines = self._files[code.co_filename], self.lines

        def note(frame: FrameType, event: str, argument: object) -> Any:
            lines.add((module, frame.f_lineno))
            left.discard(frame.f_lineno)
            return note

        return note


def code_lines(code: CodeType) -> Iterator[int]:
    """The lines of a function's own code but for the one that begins it."""
    for _, _, line in code.co_lines():
        if line is not None and (line != code.co_firstlineno or code.co_name.startswith("<")):
            yield line


def executable_lines(module: str, without: Sequence[str] = ()) -> set[tuple[str, int]]:
    """The lines of a module's functions, but for those of functions and classes that `without` names."""
    lines: set[tuple[str, int]] = set()

    def visit(code: CodeType) -> None:
        if code.co_qualname in without or code.co_qualname.startswith(
            ("<lambda", "<genexpr", "<listcomp", "<dictcomp")
        ):
            return  # those of a module run when it is imported
        if code.co_flags & inspect.CO_OPTIMIZED:  # no module and no body of a class
            lines.update((module, line) for line in code_lines(code))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                visit(constant)

    visit(compile((ROOT / module).read_text(encoding="utf-8"), module, "exec"))
    return lines


def shares(count: int, parsers: Sequence[Parser]) -> dict[str, int]:
    """How many of `count` inputs each parser gets, by its weight."""
    total = sum(parser.weight for parser in parsers)
    return {parser.name: max(1, round(count * parser.weight / total)) for parser in parsers}


def fuzz(parsers: Sequence[Parser], args: argparse.Namespace) -> dict[str, Result]:
    """All inputs of one part, parser after parser; each has its row as soon as it is done."""
    part, num_parts = args.part
    results: dict[str, Result] = {}
    print(f"{'parser':16} {'tried':>8} {'read':>7} {'wrong':>6} {'slowest':>8}", flush=True)
    for parser in parsers:
        count = shares(args.count, parsers)[parser.name]
        numbers = range(count * (part - 1) // num_parts, count * part // num_parts)
        cases = range(-len(cases_of(parser)), 0) if part == 1 else range(0)
        result = results[parser.name] = Result()
        for chunk in (cases, *(numbers[first : first + _CHUNK] for first in range(0, len(numbers), _CHUNK))):
            result.add(try_apart(parser, args.seed, chunk, args.coverage))
        _print_row(parser, result)
    if args.coverage:
        _print_lines(set().union(*(result.lines for result in results.values())))
    return results


def _print_row(parser: Parser, result: Result) -> None:
    slowest = f"{result.slowest:.2f} s"
    print(f"{parser.name:16} {result.tried:8} {result.read:7} {len(result.wrong):6} {slowest:>8}", flush=True)
    first_of_kind = {what.rpartition(" at ")[2]: (number, what) for number, what in reversed(result.wrong)}
    for number, what in first_of_kind.values():
        print(f"    {number}: {what}", flush=True)


def _print_lines(run: set[tuple[str, int]]) -> None:
    """Which share of each module's lines was run by all parsers together, and which were not."""
    print("\nlines that were run")
    for module, without in MODULES.items():
        lines = executable_lines(module, without)
        missing = sorted(line for _, line in lines - run)
        share = 100 * (1 - len(missing) / len(lines))
        print(f"{module:38} {share:5.1f} % of {len(lines):3}  {_ranges(missing)}")


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order as text: 1-3 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def configure(options: argparse.ArgumentParser) -> None:
    names = [parser.name for parser in PARSERS]
    options.add_argument("--count", type=int, default=1_000_000, help="inputs in all (default: %(default)s)")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--parser", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    add_part(options, "inputs")
    options.add_argument("--coverage", action="store_true", help="which share of the parsers' lines is run; slower")
    options.add_argument("--show", type=int, metavar="NUMBER", help="write this input of the parser to ./fuzz-NUMBER")


def run(args: argparse.Namespace) -> int:
    parsers = [parser for parser in PARSERS if not args.parser or parser.name in args.parser]
    if args.show is not None:
        for name, content in make_input(parsers[0], args.seed, args.show).items():
            path = Path(f"fuzz-{args.show}") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return 0
    began = time.perf_counter()
    results = fuzz(parsers, args).values()
    tried, wrong = sum(result.tried for result in results), sum(len(result.wrong) for result in results)
    print(f"{time.perf_counter() - began:.0f} s")
    print(f"fuzz: {tried} tried, {tried - wrong} right, {wrong} wrong")
    return 1 if wrong else 0


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m tests.faults fuzz", description=(__doc__ or "").split("\n")[0])
    configure(options)
    return run(options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
