import argparse
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from asrkit.cli import main as cli
from asrkit.cli.options import positive_int
from asrkit.errors import DataError


@pytest.fixture
def verb(monkeypatch):
    """Registers a verb `act` whose run() is given to the returned function."""

    def register(run):
        module = SimpleNamespace(configure=lambda parser: parser.add_argument("--number", type=positive_int), run=run)
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
        "asrkit score: error: standard output: cannot be used (No space left on device)\n",
    )


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
        ["train", "--train", "DATA", "--dev", "DATA", "--tokens", "DATA/tokens.txt", "--dir", "EXP"],
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
