"""The fuzzer: a small share of what `python -m tests.faults.fuzz` does, and that it finds what it is there for."""

import mmap
import os
import signal

import pytest

from asrkit.errors import DataError
from tests.faults import fuzz
from tests.faults.fuzz import executable_lines, make_input, try_apart, try_inputs
from tests.faults.parsers import INPUT, PARSERS, Parser


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_right_inputs_are_read_and_old_faults_stay_away(parser):
    """All right inputs but those that show what is refused, some damaged ones, and all that were wrong once."""
    cases = range(-len(fuzz.cases_of(parser)), 0)
    result = try_inputs(parser, 0, [*cases, *range(20)])
    assert result.wrong == []
    assert result.tried == 20 + len(cases)


def parser_of(read):
    return Parser("planted", read, [{INPUT: b"a 1\n"}], [b"a"])


def planted(fault):
    """A parser that goes wrong at the third input."""
    calls = iter(range(100))

    def read(directory):
        if next(calls) == 2:
            fault(directory)

    return parser_of(read)


def use_memory(size):
    """Use memory that was not in use before: malloc may keep what was freed, once a training has run."""
    with mmap.mmap(-1, size) as new:
        for place in range(0, size, mmap.PAGESIZE):
            new[place] = 1


def grow(directory):
    use_memory(fuzz._MAX_GROWTH + 2**24)


def spin(directory):
    while True:
        pass


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda directory: int("x"), "ValueError: invalid literal"),
        (lambda directory: [].pop(), "IndexError: pop from empty list"),
        (lambda directory: os.close(99999), "OSError"),
        (grow, "memory grew by "),
        (spin, "more than 0.2 s of CPU"),
    ],
)
def test_what_is_wrong_is_found(monkeypatch, fault, expected):
    monkeypatch.setattr(fuzz, "_MAX_SECONDS", 0.2 if fault is spin else 60.0)
    result = try_apart(planted(fault), 1, range(3))
    ((number, what),) = result.wrong
    assert number == 2
    assert what.startswith(expected)


def test_memory_freed_before_hides_no_growth(monkeypatch):
    monkeypatch.setattr(fuzz, "_MAX_GROWTH", 2**26)
    use_memory(2**29)
    assert [number for number, _ in try_inputs(planted(grow), 1, range(3)).wrong] == [2]


def test_messages_name_the_file():
    def fault(message):
        def read(directory):
            raise DataError(message.format(directory))

        return try_inputs(parser_of(read), 1, range(1)).wrong

    assert fault("{0}/input:1: not a number") == []
    assert fault("{0}/input:1: not a number\n{0}/input:2: nor this") == []
    assert fault("not a number")[0][1].startswith("DataError names no file")
    assert fault("{0}/input:1: the label 'a\nb'")[0][1].startswith("DataError names no file")


def test_files_that_stay_open():
    kept = []
    result = try_inputs(planted(lambda directory: kept.append((directory / INPUT).open())), 1, range(6))
    assert [what for _, what in result.wrong] == ["1 files stay open after this input or one that follows"]


def test_a_process_that_ends_is_found_and_the_rest_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz, "in_memory", lambda: str(tmp_path))

    def read(directory):
        if "2" in (directory / INPUT).read_text(errors="replace"):
            os.kill(os.getpid(), signal.SIGKILL)

    parser = parser_of(read)
    numbers = range(100)
    ending = [n for n in numbers if "2" in make_input(parser, 1, n)[INPUT].decode(errors="replace")]
    result = try_apart(parser, 1, numbers)
    assert ending
    assert [number for number, _ in result.wrong] == ending
    assert {what for _, what in result.wrong} == {f"the process ended with status {-signal.SIGKILL}"}
    assert result.tried == len(numbers)
    assert os.listdir(tmp_path) == []


def test_a_library_that_does_not_come_back_is_ended(monkeypatch):
    def read(directory):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
        spin(directory)

    monkeypatch.setattr(fuzz, "_MAX_SECONDS", 0.02)
    ((number, what),) = try_apart(parser_of(read), 1, range(1)).wrong
    assert (number, what) == (0, "more than 0.4 s of CPU in a library")


def test_inputs_depend_on_seed_and_number_alone():
    for parser in (PARSERS[0], PARSERS[-1]):
        inputs = [make_input(parser, 5, number) for number in range(50)]
        assert inputs == [make_input(parser, 5, number) for number in range(50)]
        assert inputs != [make_input(parser, 6, number) for number in range(50)]


def test_parts_are_all_inputs(capsys):
    tried = []
    options = fuzz.argparse.ArgumentParser()
    fuzz.configure(options)
    for part in ("1/3", "2/3", "3/3"):
        args = options.parse_args(["--count", "300", "--parser", "tokens", "--part", part])
        tried.append(fuzz.fuzz([parser for parser in PARSERS if parser.name == "tokens"], args)["tokens"].tried)
    cases = len(fuzz.cases_of(next(parser for parser in PARSERS if parser.name == "tokens")))
    assert tried == [100 + cases, 100, 100]
    assert "tokens" in capsys.readouterr().out


def test_lines_that_were_run_are_counted(tmp_path, monkeypatch):
    lines = ["X = 1", "", "", "", "", "def f(x):", '    """Doc."""', "    if x:", "        return 1", "    return 2"]
    source = "\n".join([*lines, "", "", "def write():", "    return 0", ""])
    (tmp_path / "module.py").write_text(source)
    monkeypatch.setattr(fuzz, "ROOT", tmp_path)
    assert executable_lines("module.py") == {("module.py", line) for line in (8, 9, 10, 14)}
    assert executable_lines("module.py", ("write",)) == {("module.py", line) for line in (8, 9, 10)}
    namespace = {}
    exec(compile(source, str(tmp_path / "module.py"), "exec"), namespace)
    monkeypatch.setattr(fuzz, "_CHUNK", 10)

    def read(directory):
        namespace["f"](1)

    monkeypatch.setattr(fuzz, "MODULES", {"module.py": ()})
    assert try_apart(parser_of(read), 1, range(3), with_lines=True).lines == {("module.py", 8), ("module.py", 9)}
