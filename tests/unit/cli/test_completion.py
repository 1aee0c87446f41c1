"""`asrkit --print-completion SHELL`: bash is asked for completions, the scripts of all shells have all verbs."""

import subprocess
import sys
from pathlib import Path

import pytest

from asrkit.cli.completion import SHELLS, kind_of_value
from asrkit.cli.main import VERBS, main
from asrkit.cli.options import OPTIONS
from tests.command_line import leaf_parsers, options_of
from tests.loud_model import loud_model
from tests.recipe_tree import write_program

LEAVES = dict(leaf_parsers())
# Asks bash as the tab key does, for one line of words after the other; the last word is what has been typed of it.
ASK = """
source ./script
while IFS= read -r line; do
  IFS=$'\\t' read -ra COMP_WORDS <<<"$line"
  [ "${COMP_WORDS[-1]}" != EMPTY ] || COMP_WORDS[-1]=
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _shtab_asrkit
  (IFS=' '; echo "${COMPREPLY[*]}")
done
"""
CASES = {
    "tr": "train-lm train-nlm train transcribe",
    "transcribe --form": "--format",
    "train --o": "--out",
    "prepare ti": "timit",
    "prepare own --tab": "--table",
    "align --format textg": "textgrid",
    "score --protocol ka": "kaldi",
    "lesson hop": "hopfield",
    "transcribe --model lo": "loud",
    "transcribe --model ex": "exp",
    "info lo": "loud",
    "transcribe s": "speech.wav sounds",
    "transcribe speech.wav --ipa so": "sounds",
    "transcribe --list s": "speech.wav sounds",
    "train --train s": "sounds",
    "prepare own --corpus s": "sounds",
    "table EMPTY": "exp models sounds",
    "--print-completion z": "zsh",
}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["--print-completion", shell])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verbs, options, choices, files, directories, and the names of the models that there are when it is asked."""
    (tmp_path / "script").write_text(script("bash", capsys))
    (tmp_path / "models").mkdir()
    for name in ("exp", "sounds"):
        (tmp_path / name).mkdir()
    (tmp_path / "speech.wav").touch()
    (tmp_path / "models/loud.onnx").write_bytes(loud_model())
    write_program(tmp_path / "bin/asrkit", f'#!/bin/sh\nexec "{sys.executable}" -m asrkit "$@"\n')
    lines = "".join("\t".join(["asrkit", *case.split()]) + "\n" for case in CASES)
    done = subprocess.run(
        ["bash", "-c", f"PATH=$PWD/bin:$PATH ASRKIT_MODELS=$PWD/models; export ASRKIT_MODELS PATH\n{ASK}"],
        cwd=tmp_path,
        input=lines,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    found = dict(zip(CASES, (set(line.split()) - {"script", "bin"} for line in done.stdout.splitlines()), strict=True))
    assert found == {case: set(expected.split()) for case, expected in CASES.items()}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_s_script_has_all_verbs(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    assert [verb for verb in VERBS if verb not in text] == []
    assert "--print-completion" in text.replace("\\", "") and "hopfield" in text


def test_all_that_is_a_path_is_completed() -> None:
    """By what stands for its value in the help."""
    paths = {option.metavar for option in OPTIONS.values() if option.type is Path}
    paths |= {
        str(action.metavar)
        for parser in LEAVES.values()
        for action in parser._actions
        if action.type is Path and action not in options_of(parser).values()
    }
    assert len(paths) >= 4
    assert {path for path in paths if kind_of_value(path) is None} == set()


def test_a_shell_that_is_unknown_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--print-completion", "cmd"])
    assert caught.value.code == 2
    assert "invalid choice: 'cmd'" in capsys.readouterr().err
