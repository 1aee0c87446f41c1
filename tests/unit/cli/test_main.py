import argparse
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from asrkit.audio import open_audio
from asrkit.cli import main as cli
from asrkit.cli.options import positive_int, print_warnings
from asrkit.cli.terminal import open_closed_streams
from asrkit.errors import AudioError, DataError, name_some
from asrkit.io.tell import logged, tell
from asrkit.parallel import track


@pytest.fixture
def verb(monkeypatch):
    """Registers a verb `act` whose run() is given to the returned function."""

    def register(run):
        module = SimpleNamespace(
            configure=lambda parser: parser.add_argument("--number", type=positive_int),
            run=run,
            DESCRIPTION="Do something.",
            EXAMPLES=("asrkit act --number 3",),
        )
        monkeypatch.setitem(sys.modules, "fake_verb", module)
        monkeypatch.setitem(cli.VERBS, "act", ("fake_verb", "do something"))

    return register


def test_a_verb_gets_its_arguments_and_gives_the_exit_status(verb):
    seen = []
    verb(lambda args: seen.append(args.number) or 0)
    assert cli.main(["act", "--number", "3"]) == 0
    assert seen == [3]


def test_an_expected_error_is_a_line_per_fault_and_status_1(verb, capsys):
    def fail(args):
        raise DataError("a:1: bad\nb:2: worse")

    verb(fail)
    assert cli.main(["act"]) == 1
    assert capsys.readouterr().err == "asrkit act: error: a:1: bad\nasrkit act: error: b:2: worse\n"


def test_a_file_that_cannot_be_used_is_one_line(verb, capsys, tmp_path):
    verb(lambda args: tmp_path.read_text())
    assert cli.main(["act"]) == 1
    assert capsys.readouterr().err == f"asrkit act: error: {tmp_path}: cannot be used (Is a directory)\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_output_that_cannot_be_written_is_status_1(tmp_path):
    (tmp_path / "text").write_text("u1 a b\n")
    command = [sys.executable, "-m", "asrkit", "score", str(tmp_path / "text"), str(tmp_path / "text")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "asrkit score: error: standard output: cannot be used (No space left on device); the disk is full; make room "
        "on it, then run the same command again\n",
    )
    for buffered in ("", "1"):
        environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*command[:4], "--help"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
            )
        assert (done.returncode, done.stderr.count("\n"), "standard output: cannot" in done.stderr) == (1, 1, True)
    with open("/dev/full", "w") as full:
        done = subprocess.run([*command[:4], "none", "none"], stderr=full)
    assert done.returncode == 1


CLOSED = "cannot be used (Bad file descriptor); it is closed; open it, or send it to /dev/null"


@pytest.mark.parametrize(
    ("closed", "command", "status", "said"),
    [
        (">&-", "score text text --quiet --json-file out.json", 1, f"asrkit score: error: standard output: {CLOSED}\n"),
        (">&-", "score --help", 1, f"asrkit score: error: standard output: {CLOSED}\n"),
        ("2>&-", "score text text --json-file out.json", 0, ""),
        ("2>&-", "score text none", 1, ""),
        ("<&-", "score text text --json-file out.json", 0, "out.json: written\n"),
        ("<&- >&- 2>&-", "score text text --json-file out.json", 1, ""),
    ],
)
def test_streams_that_are_closed(tmp_path, closed, command, status, said):
    """What is opened next would get their numbers, and what is printed would go there."""
    (tmp_path / "text").write_text("u1 a b\n")
    script = f"exec {sys.executable} -m asrkit {command} {closed}"
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, said)
    if "--json-file" in command:
        assert json.loads((tmp_path / "out.json").read_text())["num_ref"] == 2


def test_audio_from_a_closed_input(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    saved = os.dup(0)
    os.close(0)
    try:
        open_closed_streams()
        said = r"^standard input: cannot be read \(Bad file descriptor\)$"
        with pytest.raises(AudioError, match=said), open_audio(sys.stdin.buffer):
            pass
    finally:
        os.dup2(saved, 0)
        os.close(saved)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, "Input/output error", "a.wav"), "a.wav: cannot be used (Input/output error); the disk or "),
        (OSError(errno.ESTALE, "Stale file handle", "a"), "a: cannot be used (Stale file handle); it was replaced on "),
        (
            PermissionError(errno.EACCES, "Permission denied", b"a\xff"),
            "a\\xff: cannot be used (Permission denied); change",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a"), "a: cannot be used (Disk quota exceeded); your quota "),
        (
            OSError(errno.EFBIG, "File too large", "a"),
            "a: cannot be used (File too large); the file exceeds the limit ",
        ),
        (
            OSError(errno.EMFILE, "Too many open files", "a"),
            "a: cannot be used (Too many open files); raise the limit ",
        ),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), "a: cannot be used (File name too long); give it a "),
        (OSError(errno.ELOOP, "Too many levels", "a"), "a: cannot be used (Too many levels); it is a link that leads "),
        (OSError(errno.EXDEV, "Invalid link", "a\nb", None, "c"), "c: cannot be used (Invalid link)"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "Resource temporarily unavailable"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
        (OSError("no cache directory"), "no cache directory"),
        (MemoryError(), "not enough memory; end other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory; end other programs"),
    ],
)
def test_what_the_system_refuses_is_one_line(verb, capsys, error, said):
    def fail(args):
        raise error

    verb(fail)
    assert cli.main(["act"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"asrkit act: error: {said}") and printed.count("\n") == 1


def test_a_reader_of_the_output_that_goes_is_no_error(tmp_path):
    (tmp_path / "text").write_text("u1 a b\n")
    command = [sys.executable, "-m", "asrkit", "score", str(tmp_path / "text"), str(tmp_path / "text")]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), KeyError("out of memory.wav")])
def test_faults_of_the_program_are_not_hidden(verb, error):
    def fail(args):
        raise error

    verb(fail)
    with pytest.raises(type(error)):
        cli.main(["act"])


def test_ctrl_c_while_the_command_loads(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'asrkit.cli.main':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
    )
    search_path = os.pathsep.join([str(tmp_path), str(Path(cli.__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "asrkit", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search_path},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "asrkit: interrupted\n")


@pytest.mark.parametrize("argv", [[], ["unknown"], ["act", "--number", "0"], ["act", "--numb", "3"], ["act", "extra"]])
def test_wrong_usage_is_status_2(verb, capsys, argv):
    verb(lambda args: 0)
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: asrkit" in capsys.readouterr().err


def test_every_verb_has_a_module_with_options():
    for verb, (module_name, _) in cli.VERBS.items():
        module = __import__(module_name, fromlist=["configure"])
        module.configure(argparse.ArgumentParser(verb))
        assert callable(module.run)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", ""])
def test_positive_int_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number"):
        positive_int(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "DATA"],
        ["train", "--train", "DATA", "--dev", "DATA", "--tokens", "DATA/tokens.txt", "--out", "EXP"],
    ],
)
def test_settings_on_the_command_line_are_checked_like_a_file_s(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("training: {seed: 1}\n")
    assert cli.main([*arguments, "--config", "c.yaml", "--set", "training.sed=2", "--set", "model.num_layers=0"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"asrkit {arguments[0]}: error: --set training.sed=2: unknown setting 'training.sed'; did you mean 'seed'?",
        f"asrkit {arguments[0]}: error: --set model.num_layers=0: model.num_layers must be at least 1, found 0",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_a_long_list_of_faults_is_cut_and_counted(verb, capsys):
    def fail(args):
        raise DataError("\n".join(f"a:{line}: bad" for line in range(1000)))

    verb(fail)
    assert cli.main(["act"]) == 1
    *shown, more, last = capsys.readouterr().err.splitlines()
    assert shown == [f"asrkit act: error: a:{line}: bad" for line in range(20)]
    assert more == "asrkit act: error: and 979 more; give --verbose to see all 1000"
    assert last == "asrkit act: error: a:999: bad"
    assert cli.main(["act", "--verbose"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1000


def test_a_long_list_of_warnings_is_cut_and_counted(verb, capsys):
    verb(lambda args: print_warnings(args, (f"odd {number}" for number in range(30))) or 0)
    assert cli.main(["act"]) == 0
    *shown, more, last = capsys.readouterr().err.splitlines()
    assert shown == [f"asrkit act: warning: odd {number}" for number in range(20)]
    assert more == "asrkit act: warning: and 9 more; give --verbose to see all 30"
    assert last == "asrkit act: warning: odd 29"
    assert cli.main(["act", "--verbose"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 31  # the last line tells the cost


@pytest.mark.parametrize("num_names", [0, 1, 10, 11, 12, 1000])
def test_a_message_names_some_of_many(num_names):
    names = [f"n{number}" for number in range(num_names)]
    shown, _, more = name_some(names).partition(" and ")
    assert shown.split() == names[: num_names if num_names < 12 else 10]
    assert more == ("" if num_names < 12 else f"{num_names - 10} more")


def test_a_line_that_is_wrong_is_not_repeated_in_full(tmp_path, capsys):
    """A file of another kind may have all its bytes in one line."""
    words = " ".join(f"word{number}" for number in range(10000))
    for name in ("text", "hyp.ctm", "ref.ctm", "tokens.txt"):
        (tmp_path / name).write_text(f"{words}\n")
    for args in (["boundaries", "--ref", "ref.ctm", "--hyp", "hyp.ctm"], ["validate", ".", "--tokens", "tokens.txt"]):
        assert cli.main([args[0], *(arg if arg[0] == "-" else str(tmp_path / arg) for arg in args[1:])]) == 1
        out, err = capsys.readouterr()
        assert "word1" in out + err and len(out + err) < 2000


def test_quiet_leaves_progress_out_and_verbose_tells_the_cost(verb, capsys):
    verb(lambda args: print("result") or ([*track(range(3), "counting")] and tell("going on")) or 0)
    for option in ([], ["--quiet"], ["--verbose"]):
        assert cli.main(["act", *option]) == 0
        out, err = capsys.readouterr()
        assert out == "result\n"
        assert ("going on\n" in err and "counting: 3/3 in" in err) == (option != ["--quiet"])
        assert ("CPU seconds, at most" in err) == (option == ["--verbose"])
    assert cli.main(["act", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_what_is_told_is_logged_with_its_time(tmp_path, capsys):
    log = tmp_path / "train.log"
    for line in ("one", "two"):
        with logged(log):
            tell(line)
    tell("three")
    assert capsys.readouterr().err == "one\ntwo\nthree\n"
    lines = log.read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", line) for line in lines] == ["one", "two"]
