"""How a lesson's results are written, and when it is run again."""

from pathlib import Path

import pytest
import torch

from asrkit.cli.main import main
from asrkit.lessons import lesson
from asrkit.lessons.lesson import Lesson, hold_lesson


def test_a_lesson_is_run_again_only_when_something_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []

    class Module:
        @staticmethod
        def study(quick: bool, text: Path) -> Lesson:
            held.append(quick)
            assert torch.get_num_threads() == 1
            return Lesson([["head"], [text.read_text()]], {"quick": quick}, {})

    monkeypatch.setattr(lesson, "import_module", lambda name: Module)
    torch.set_num_threads(2)
    out, text = tmp_path / "out", tmp_path / "text"
    text.write_text("one")

    def hold(quick: bool = True, force: bool = False) -> str:
        return hold_lesson("reber", out, quick, {"text": text}, force)

    assert hold() == "head\none"
    assert hold() == f"{out}: up to date"
    assert hold(force=True) == "head\none"
    assert hold(quick=False) == "head\none"  # another size
    text.write_text("two")
    assert hold(quick=False) == "head\ntwo"  # another text
    (out / "table.txt").write_text("changed by hand")
    assert hold(quick=False) == "head\ntwo"
    assert hold(quick=False) == f"{out}: up to date"
    assert held == [True, True, False, False, False]


def test_a_text_is_for_one_lesson_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lesson", "hopfield", "--out", str(tmp_path), "--plain-text", "x"]) == 1
    assert "--plain-text has no meaning for the lesson hopfield" in capsys.readouterr().err
