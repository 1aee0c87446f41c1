"""recipes/textbook/run.sh at its small size: what each lesson claims, on its own figures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from asrkit.lessons import LESSONS
from tests.recipe_tree import ROOT, copy_recipes, run_recipe

STAGES = {"reber": 1, "gradients": 2, "truncation": 3, "characters": 6, "hopfield": 8}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copy_recipes(tmp_path)
    return tmp_path


def hold(root: Path, name: str) -> dict[str, Any]:
    """The figures of a lesson, run as a stage of the recipe."""
    number = str(STAGES[name])
    result = run_recipe(root, "textbook", "--stage", number, "--stop-stage", number, "--quick", "--dir", "exp")
    assert (result.returncode, result.stderr) == (0, "")
    assert [folder.name for folder in (root / "exp").iterdir()] == [name]
    assert (root / "exp" / name / "table.txt").read_text() in result.stdout
    pictures = {path.name: path for path in (root / "exp" / name).glob("*.png")}
    page = (ROOT / "docs" / "textbook" / f"{name}.md").read_text(encoding="utf-8")
    assert sorted(pictures) == sorted(re.findall(r"!\[[^]]+\]\((.*?)\)", page))  # all are shown, and no others
    for picture, path in pictures.items():
        assert imread(path).shape == imread(ROOT / "docs" / "textbook" / picture).shape
    return json.loads((root / "exp" / name / "figures.json").read_text())


@pytest.mark.slow
def test_reber(root: Path) -> None:
    figures = hold(root, "reber")
    right = figures["last_but_one"]
    late = zip(*right["LSTM, 16 blocks, BPTT"][-5:], strict=True)  # of each seed; with this rate it falls back at times
    assert all(max(shares) > 99 for shares in late)
    for name in ("Elman, 3 hidden, step by step", "Jordan, 3 hidden, step by step"):
        assert all(40 < share < 60 for shares in right[name] for share in shares)
    legal, wrong_end, damaged = figures["judged"]["LSTM, 16 blocks, BPTT"]
    assert min(wrong_end + damaged) > 90
    assert min(legal) > 50
    assert 0 < figures["angle_degrees"]["mean"] < 30


@pytest.mark.slow
def test_gradients(root: Path) -> None:
    figures = hold(root, "gradients")
    left = figures["left_after_all_steps"]
    assert max(left["Elman"], left["GRU"], left["LSTM"]) < 1e-5
    assert 0.01 < left["LSTM without forget gate"] < 100
    factors = figures["factor_per_step"]
    assert all(factor <= float(value) for value, factor in factors["Elman"].items())
    assert factors["Elman"]["3.0"] > 1.1
    assert all(0.95 < factor < 1.1 for factor in factors["LSTM without forget gate"].values())
    longest, lowest, last = figures["longest_step"], figures["lowest_loss"], figures["last_loss"]
    assert longest["not clipped"] > 100 * longest["clipped by norm"]
    assert max(lowest["clipped by norm"], lowest["clipped by value"]) < 1e-3
    assert last["not clipped"] > 0.05
    assert figures["adding"]["LSTM"]["20"][-1] < 0.1


@pytest.mark.slow
def test_truncation(root: Path) -> None:
    figures = hold(root, "truncation")
    biases = [*figures["truncated_bias"].values()]
    assert biases == sorted(biases, reverse=True)
    assert biases[0] > 0.5
    for tau in ("4", "8", "16"):
        chance = figures["random"][tau]
        assert chance["bias"] < 3 * chance["chance"]
        assert chance["deviation"] > 0.1
    assert figures["random"]["4"]["bias"] < figures["truncated_bias"]["4"] / 3


@pytest.mark.slow
def test_characters(root: Path) -> None:
    figures = hold(root, "characters")
    smoothed, hardly_smoothed = figures["markov"]["0.1"], figures["markov"]["0.0001"]
    assert smoothed[:4] == sorted(smoothed[:4], reverse=True)
    assert hardly_smoothed[4] > smoothed[4] + 0.1
    assert abs(hardly_smoothed[0] - smoothed[0]) < 0.1
    network = [*figures["network"].values()]
    assert network == sorted(network, reverse=True)
    assert network[0] > 4.7  # log2(29) = 4.86: it knows nothing yet
    assert network[-1] < smoothed[0] - 0.5


@pytest.mark.slow
def test_hopfield(root: Path) -> None:
    figures = hold(root, "hopfield")
    assert figures["largest_rise_of_energy"] <= 1e-9
    assert figures["shapes_right"] == 4
    assert 0.12 < figures["capacity"]["200"] < 0.2
    few, all_phones = figures["associative"]["5"], figures["associative"]["13"]
    assert (few["features"], few["phone"], all_phones["features"]) == (5, 5, 13)
    assert all_phones["phone"] < 5
    assert few["despite"] > 0.75
    assert max(few["rise"], all_phones["rise"]) <= 1e-9


def test_a_second_run_has_nothing_to_do(root: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a small text, again and again. " * 300)
    options = ("--stage", "6", "--stop-stage", "6", "--quick", "--dir", "exp", "--plain-text", str(text))
    assert "Markov, order 4" in run_recipe(root, "textbook", *options).stdout
    again = run_recipe(root, "textbook", *options)
    assert again.stdout == "== stage 6: models of language, by character ==\nexp/characters: up to date\n"
    assert "Markov, order 4" in run_recipe(root, "textbook", *options, "--force").stdout


def test_every_lesson_is_a_stage_and_has_a_page(root: Path) -> None:
    result = run_recipe(root, "textbook", "--help")
    assert (result.returncode, result.stderr) == (0, "")
    stages = result.stdout.partition("Stages:\n")[2].splitlines()
    assert [int(line.split()[0]) for line in stages] == sorted(STAGES.values())
    assert {*STAGES} == {*LESSONS}
    overview = (ROOT / "docs" / "textbook" / "README.md").read_text(encoding="utf-8")
    for name, number in STAGES.items():
        assert f"[{number}, `{name}`]({name}.md)" in overview


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frob"], "unknown option '--frob'"),
        (["--stage"], "--stage needs a value"),
        (["--plain-text="], "--plain-text needs a value"),
        (["--stage", "0"], "--stage: expected a lesson, 1 to 8, found '0'"),
        (["--stop-stage=9"], "--stop-stage: expected a lesson, 1 to 8, found '9'"),
        (["--stage", "3", "--stop-stage", "1"], "--stage 3 comes after --stop-stage 1"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(root: Path, options: list[str], message: str) -> None:
    result = run_recipe(root, "textbook", *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert f"run.sh: error: {message}" in result.stderr
