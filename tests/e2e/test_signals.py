"""Ctrl-C, kill and closed terminals: real processes, each interrupted when it says that it has come to a point."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.e2e.conftest import run_asrkit, train_args
from tests.recipe_tree import ROOT, copy_recipes, write_program

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


class Pipe:
    """A named pipe in which processes say where they are, and whose end says that all of them are gone."""

    def __init__(self, path: Path) -> None:
        self.path, self._said = path, b""
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, *command, **options):
        """A process that holds the pipe, and hears of SIGINT, which a shell's background jobs ignore."""
        held = os.open(self.path, os.O_WRONLY)
        process = subprocess.Popen(
            [*map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[held],
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **options,
        )
        os.close(held)
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End what a failing test has left."""
        for process in self._processes:
            process.kill()
        os.close(self._descriptor)

    def line(self) -> str:
        """The next line, or "" at the end."""
        while b"\n" not in self._said:
            assert select.select([self._descriptor], [], [], 100)[0], "nothing was said for too long"
            piece = os.read(self._descriptor, 4096)
            if not piece:
                return ""
            self._said += piece
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()


@pytest.fixture
def pipe(tmp_path):
    with contextlib.closing(Pipe(tmp_path / "pipe")) as pipe:
        yield pipe


# The command, which stops before the n-th file appears under its name, says so, and waits to be interrupted.
STOPPING = """
import os, signal, sys, time
pipe, wanted = open(sys.argv[1], "w"), int(sys.argv[2])
del sys.argv[1:3]
seen = 0

def stop(event, args):
    global seen
    if event == "os.rename":
        seen += 1
        if seen == wanted:
            wait()

def wait():
    print("stopped", file=pipe, flush=True)
    time.sleep(1000)

from asrkit.cli.main import main
sys.addaudithook(stop)
"""
RUN = "sys.exit(main())"
STUBBORN = """
def wait():
    said = "stopped"
    while True:
        try:
            print(said, file=pipe, flush=True)
            time.sleep(1000)
        except KeyboardInterrupt:
            said = "again"

"""
IGNORING = """
for number in (1, 2):
    signal.signal(number, signal.SIG_IGN)

def wait():
    for number in (1, 2):
        os.kill(os.getpid(), number)

"""


def interrupt(pipe, command, number=signal.SIGTERM, *, before_file=1):
    """The message of `asrkit COMMAND`, interrupted before it puts the n-th of its files in place."""
    process = pipe.start(sys.executable, "-c", STOPPING + RUN, pipe.path, before_file, *command)
    assert pipe.line() == "stopped", process.communicate()
    process.send_signal(number)
    _, said = process.communicate(timeout=100)
    assert process.returncode == SIGNALS[number], said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == f"asrkit {command[0]}: interrupted"
    return said


def temporary_files(directory):
    return [path for path in directory.rglob(".*") if ".tmp" in path.name]


def commands(tones, new):
    """The verbs that write files, and how many files each has in place when it is interrupted."""
    data, exp = tones / "data", new / "exp"
    config = ("--config", tones / "config.yaml")
    decoded = ("--model", exp, "--data", data / "test", "--decode-dir", new / "decoded")
    return [
        (3, "prepare", "own", "--corpus", new / "corpus", "--out", new / "data"),
        (1, "extract", new / "test", *config, "--nj", 1),
        (1, "train-lm", "--train", data / "train", "--tokens", data / "tokens.txt", "--out-file", new / "lm.arpa"),
        (9, *train_args(tones, exp), "--resume"),
        (9, "adapt", "--model", exp, "--data", data / "test", "--out", new / "adapted", "--resume"),
        (2, "decode", "--model", exp, "--data", data / "test", "--out", new / "decoded", "--nj", 1),
        (1, "tune", *decoded, "--nj", 1),
        (1, "report", "--data", data / "test", "--hyp", new / "decoded/hyp", "--out", new / "decoded"),
        (1, "analyze", *decoded, "--nj", 1),
        (1, "export", "--model", exp, "--out-file", new / "model.onnx"),
        (1, "transcribe", "--model", exp, "--out", new / "out", new / "corpus/a.wav"),
        (1, "align", "--model", exp, "--data", data / "test", "--out", new / "aligned"),
    ]


@pytest.fixture
def corpus(tones, tmp_path):
    (tmp_path / "corpus").mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        soundfile.write(tmp_path / f"corpus/{name}.wav", rng.normal(0, 0.1, 8000), 16000)
    rows = [f"{name}.wav,a #,{set_name}" for name, set_name in zip("abc", ("train", "dev", "test"), strict=True)]
    (tmp_path / "corpus/table.csv").write_text("\n".join(["audio,phones,set", *rows]))
    (tmp_path / "test").mkdir()
    for name in ("wav.scp", "text", "utt2spk"):
        (tmp_path / "test" / name).write_bytes((tones / "data/test" / name).read_bytes())
    return tmp_path


@pytest.mark.slow
def test_every_verb_that_is_interrupted_leaves_nothing_half_written_and_can_be_run_again(tones, corpus, tmp_path):
    for number, (before_file, *command) in enumerate(commands(tones, corpus)):
        with contextlib.closing(Pipe(tmp_path / f"pipe{number}")) as pipe:
            interrupt(pipe, command, before_file=before_file)
        assert temporary_files(tmp_path) == [], command
        again = run_asrkit(*command)
        if command[0] in ("train", "adapt"):
            assert re.search("^resuming after epoch", again.stderr, re.M)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_does_what_ctrl_c_does(tones, tmp_path, pipe, number):
    out, data = tmp_path / "lm.arpa", tones / "data"
    command = ("train-lm", "--train", data / "train", "--tokens", data / "tokens.txt", "--out-file", out)
    assert interrupt(pipe, command, number).count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_signal_that_is_to_be_ignored_is(tones, tmp_path, pipe):
    """As nohup wants it for SIGHUP, and shells for the SIGINT of background jobs."""
    (tmp_path / "text").write_text("u1 a b\n")
    command = ("score", tmp_path / "text", tmp_path / "text", "--json-file", tmp_path / "json")
    process = pipe.start(sys.executable, "-c", STOPPING + IGNORING + RUN, pipe.path, 1, *command)
    out, said = process.communicate(timeout=100)
    assert (process.returncode, said) == (0, f"{tmp_path / 'json'}: written\n")
    assert "%PER 0.00" in out


def test_the_second_ctrl_c_ends_it_at_once(tones, tmp_path, pipe):
    """Whatever it is doing about the first."""
    data = tones / "data"
    command = (
        "train-lm",
        "--train",
        data / "train",
        "--tokens",
        data / "tokens.txt",
        "--out-file",
        tmp_path / "lm.arpa",
    )
    process = pipe.start(sys.executable, "-c", STOPPING + STUBBORN + RUN, pipe.path, 1, *command)
    assert pipe.line() == "stopped"
    process.send_signal(signal.SIGINT)
    assert pipe.line() == "again"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=100) == ("", "")
    assert process.returncode == -signal.SIGINT
    assert pipe.line() == ""


IMPORTING = """
import sys
sys.path.insert(0, sys.argv[1])
from asrkit.cli import main
main.VERBS["act"] = ("slow_module", "do something")
sys.argv[1:] = ["act"]
sys.exit(main.main())
"""


@pytest.mark.parametrize(
    "module",
    [
        "os.kill(os.getpid(), signal.SIGINT)",
        "try: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: raise ImportError('cannot be imported')",
        "try: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: pass",
    ],
)
def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path, pipe, module):
    """Nor when a library makes another exception of it, or none."""
    text = f"import os, signal\n{module}\ndef configure(parser): pass\ndef run(args): print('ran')\n"
    (tmp_path / "slow_module.py").write_text(text)
    process = pipe.start(sys.executable, "-c", IMPORTING, tmp_path)
    assert process.communicate(timeout=100) == ("", "asrkit act: interrupted\n")
    assert process.returncode == 130


WORKING = """
import os, time
from pathlib import Path
from asrkit.io.atomic import atomic_write
from asrkit.parallel import map_ordered

def work(name):
    with atomic_write(Path(os.environ["OUT"]) / name) as stream, open(os.environ["PIPE"], "w") as pipe:
        stream.write("half")
        stream.flush()
        print("working", file=pipe, flush=True)
        time.sleep(1000)

DESCRIPTION, EXAMPLES = "Work.", ()

def configure(parser): pass

def run(args): list(map_ordered(work, "abcd", 2, description="work", chunk_size=1))
"""


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_workers_clean_up_and_end(tmp_path, pipe, send):
    """Whether the command alone is told to end, or all of its processes."""
    (tmp_path / "slow_module.py").write_text(WORKING)
    out = tmp_path / "out"
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "OUT": str(out), "PIPE": str(pipe.path)}
    process = pipe.start(
        sys.executable, "-c", IMPORTING, tmp_path, env={**os.environ, **environment}, start_new_session=True
    )
    assert [pipe.line(), pipe.line()] == ["working", "working"]
    assert len(list(out.iterdir())) == 2
    send(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=100) == ("", "asrkit act: interrupted\n")
    assert process.returncode == 143
    assert pipe.line() == ""
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        "echo running >&3; sleep 1000; cat x.wav",
        "(sleep 0.3; echo running >&3; sleep 1000) & exit",  # the shell is gone by then
    ],
)
def test_the_commands_of_a_table_end_too(tmp_path, pipe, command):
    (tmp_path / "wav.scp").write_text(f"u1 exec 3>{pipe.path}; {command} |\n")
    (tmp_path / "text").write_text("u1 a\n")
    (tmp_path / "utt2spk").write_text("u1 s1\n")
    process = pipe.start(sys.executable, "-m", "asrkit", "validate", tmp_path, "--allow-pipes")
    assert pipe.line() == "running"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=100) == ("", "asrkit validate: interrupted\n")
    assert process.returncode == 143
    assert pipe.line() == ""


# In place of asrkit: says which verb it was called with, and for how long it lives.
ASRKIT = """#!/bin/sh
exec 3>"$PIPE"
trap 'trap - TERM; echo "$1 is told to end" >&3; [ -n "$STUBBORN" ] || exit 143' TERM
echo "$1 has begun" >&3
while :; do sleep 0.05; done
"""


@pytest.fixture
def recipe(tmp_path, pipe):
    """Starts the mini recipe with options; its asrkit does nothing, for a long time."""
    root = tmp_path / "a copy"
    copy_recipes(root)
    write_program(root / ".venv/bin/asrkit", ASRKIT)

    def run(*options, **environment):
        return pipe.start(
            root / "recipes/mini/run.sh", *options, env={**os.environ, "PIPE": str(pipe.path), **environment}
        )

    run.root = root
    return run


@pytest.mark.parametrize("number", SIGNALS)
def test_a_recipe_ends_with_its_stage(recipe, pipe, number):
    process = recipe("--stage", "3")
    assert pipe.line() == "train has begun"
    process.send_signal(number)
    assert process.communicate(timeout=100) == ("== stage 3: train ==\n", "")
    assert process.returncode == SIGNALS[number]
    assert [pipe.line(), pipe.line()] == ["train is told to end", ""]


def test_a_recipe_ends_with_all_runs_of_its_findings(recipe, pipe):
    findings = recipe.root / "tools/findings.sh"
    findings.write_text(findings.read_text().replace("force='' extract", "true"))  # straight to the runs
    process = recipe("--stage", "7", "--nj", "2")
    assert [pipe.line(), pipe.line()] == ["train has begun"] * 2
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 143
    assert sorted(re.findall(r"error: (\S+) did not finish", said)) == ["lstm_1_uni.1", "lstm_1_uni.2"]
    assert said.count("\n") == 2
    assert [pipe.line(), pipe.line(), pipe.line()] == ["train is told to end"] * 2 + [""]


def test_the_second_ctrl_c_ends_a_recipe_whose_stage_does_not(recipe, pipe):
    process = recipe("--stage", "3", STUBBORN="yes")
    assert pipe.line() == "train has begun"
    process.send_signal(signal.SIGINT)
    assert pipe.line() == "train is told to end"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == 130
    assert pipe.line() == ""
