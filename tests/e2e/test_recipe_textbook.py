"""recipes/textbook/run.sh at its small size: what each lesson claims, on its own figures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from asrkit.lessons import LESSONS
from tests.recipe_tree import ROOT, copy_recipes, run_recipe

from .conftest import run_asrkit, train_args

STAGES = {
    "reber": 1,
    "gradients": 2,
    "truncation": 3,
    "memory": 4,
    "phones": 5,
    "characters": 6,
    "sequences": 7,
    "hopfield": 8,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copy_recipes(tmp_path)
    return tmp_path


def hold(root: Path, name: str, *options: str, trains: bool = False) -> dict[str, Any]:
    """The figures of a lesson, run as a stage of the recipe; one that `trains` a network tells of its epochs."""
    number = str(STAGES[name])
    stage = ("--stage", number, "--stop-stage", number)
    result = run_recipe(root, "textbook", *stage, "--quick", "--out", "exp", *options)
    assert result.returncode == 0, result.stderr
    told = f"exp/{name}: the lesson's table and pictures\n"
    assert result.stderr.endswith(told) if trains else result.stderr == told
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


@pytest.fixture(scope="module")
def of_tones(tones: Path) -> tuple[str, ...]:
    """Options for lessons on speech: tones, and a network on them with CTC and frame-wise outputs."""
    exp = tones / "exp_both"
    run_asrkit(*train_args(tones, exp), "--set", "model.head=both")
    return ("--data-root", str(tones / "data"), "--model", str(exp))


@pytest.mark.slow
def test_memory(root: Path, of_tones: tuple[str, ...]) -> None:
    figures = hold(root, "memory", *of_tones, trains=True)
    forward, both = figures["reach"]["unidirectional"], figures["reach"]["bidirectional"]
    assert forward["after"] == 0
    assert forward["future_ms"] <= 10  # the last of the step's own three frames
    assert min(both["before"], both["after"]) > 0.1
    assert both["future_ms"] > 30
    for reach in (forward, both):
        assert abs(reach["before"] + reach["own"] + reach["after"] - 1) < 1e-6
        assert reach["own"] > 0.1
    beyond = [k for k, mean in zip(figures["offsets_ms"], figures["mean"]["unidirectional"], strict=True) if mean > 0]
    assert max(beyond) == 10


@pytest.mark.slow
def test_phones(root: Path, of_tones: tuple[str, ...]) -> None:
    figures = hold(root, "phones", *of_tones)
    lattice = figures["lattice"]
    best = max(lattice["enumeration"], key=lambda labels: lattice["enumeration"][labels])
    assert (lattice["best_path"], lattice["greedy"]["labels"], best) == ("-a-", "a", "ab")
    assert lattice["greedy"]["probability"] == pytest.approx(lattice["enumeration"]["a"])
    assert lattice["beams"] == {"1": "a", "2": "a", "3": "ab"}
    assert abs(sum(lattice["enumeration"].values()) - 1) < 1e-9
    utterance = figures["utterance"]
    assert utterance["ctc_labels"] == utterance["reference"]
    assert utterance["ctc_merged"].replace("- ", "").removesuffix(" -") == utterance["ctc_labels"]
    searches = figures["searches"]
    for name in ("CTC, greedy", "CTC, beam of 1", "CTC, beam of 3", "CTC, beam of 10"):
        search = searches[name]
        assert search["search_errors"] + search["model_errors"] == search["num_wrong"]
        if example := search.get("search_error"):
            assert example["log_p_reference"] > example["log_p_hypothesis"]
        if example := search.get("model_error"):
            assert example["log_p_reference"] is None or example["log_p_reference"] <= example["log_p_hypothesis"]
    assert searches["CTC, beam of 10"]["search_errors"] <= searches["CTC, greedy"]["search_errors"]
    assert searches["CTC, beam of 10"]["per"] < 50


def test_without_speech_its_lessons_are_left_out(root: Path) -> None:
    result = run_recipe(root, "textbook", "--stage", "4", "--stop-stage", "5", "--out", "exp")
    assert (result.returncode, result.stderr) == (0, "")
    said = [line for line in result.stdout.splitlines() if not line.startswith("==")]
    assert len(said) == 2
    assert all(line.startswith("left out: ") and line.endswith("; run recipes/mini/run.sh first") for line in said)
    assert not (root / "exp").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["memory"],
            "lesson memory: expected --data and --model; give those of a recipe that has been run (recipes/mini)",
        ),
        (["phones", "--data", "data"], "lesson phones: expected --data and --model"),
        (["hopfield", "--data", "data"], "--data and --model have no meaning for the lesson hopfield; leave them out"),
        (["phones", "--data", "data", "--model", "none"], "none: no such experiment directory"),
    ],
)
def test_a_lesson_says_what_it_needs(tmp_path: Path, args: list[str], message: str) -> None:
    done = run_asrkit("lesson", *args, "--out", tmp_path / "out", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_model_that_does_not_fit_a_lesson_is_named(tones: Path, tmp_path: Path) -> None:
    options = ("--data", tones / "data/test", "--model", tones / "exp", "--out", tmp_path / "out")
    for name, message in (
        ("memory", "expected a unidirectional and a bidirectional --model, found "),
        ("phones", "expected a model with CTC and frame-wise outputs (model.head both)"),
    ):
        done = run_asrkit("lesson", name, *options, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


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
def test_sequences(root: Path) -> None:
    figures = hold(root, "sequences")
    right = figures["right"]
    assert min(right["attention"]["3"]) > max(right["one context vector"]["3"])  # longer ones take more updates
    for weights in figures["weights"]:
        assert all(sum(row) == pytest.approx(1, abs=1e-4) for row in weights)
    plant, energy = figures["errors"]["A nonlinear plant"], figures["errors"]["Energy of speech"]
    for network in ("NARX", "Elman"):
        assert max(seed[3] for seed in plant[network]) < plant["linear"][0][3] / 2
        assert max(seed[11] for seed in plant[network]) < plant["linear"][0][11]
        assert max(seed[0] for seed in energy[network]) < energy["linear"][0][0]
        assert min(seed[11] for seed in energy[network]) > energy["linear"][0][11]
    assert min(plant["last value"][0][11], energy["last value"][0][11]) > 1


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


@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(root: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a small text, again and again. " * 300)
    options = ("--stage", "6", "--stop-stage", "6", "--quick", "--out", "exp", "--plain-text", str(text))
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
