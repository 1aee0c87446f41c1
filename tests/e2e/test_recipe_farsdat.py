"""recipes/farsdat/run.sh from stage 0 to 6, and its table of networks, on a small tree of tones in FarsDat's layout."""

import re

import pytest

from tests.farsdat_tree import Style, make_tree
from tests.recipe_tree import copy_recipes, run_recipe

pytestmark = pytest.mark.slow
FEATURES = "features: {frame_length_ms: 16, frame_shift_ms: 8}\n"
SMALL = "model: {num_layers: 1, hidden_size: 24, dropout: 0.1, self_conditioning: false, stack: 3, skip: 3}\n"
OPTIONS = ("--corpus", "corpus", "--split", "textbook-80-20")
TRAINING = (
    "training: {num_epochs: %d, batch_size: 4, max_lr: 0.02, input_noise: 0.2, warmup: 0.12, weight_decay: 0.01,\n"
    "  augment: {speeds: [], vtlp: 0, time_masks: 0}}\n"
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipe")
    copy_recipes(root)
    make_tree(root / "corpus", range(1, 13), style=Style(44100, str.lower, 0.12), num_sentences=3)
    (root / "small.yaml").write_text(FEATURES + SMALL + TRAINING % 9)
    return root


def run_farsdat(tree, workplace, *options):
    """The recipe of the copy below `tree`, on the data in `workplace`."""
    options = ("--data-root", "data", "--exp", "exp/small", "--nj", "2", "--config", "small.yaml", *options)
    done = run_recipe(tree, "farsdat", *options, cwd=workplace)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def first_run(workplace):
    """Stages 0 to 6."""
    return run_farsdat(workplace, workplace, *OPTIONS)


def test_the_stages_run_and_a_second_run_skips_what_is_done(workplace, first_run):
    done = first_run
    assert [int(n) for n in re.findall(r"^== stage (\d):", done.stdout, re.MULTILINE)] == list(range(7))
    assert "24 recordings (24 at 44100 Hz, as their headers say), 72 utterances" in done.stderr
    assert (
        "split textbook-80-20 by whole speakers, seed 1: 60 utterances to train on (6 of them dev), 12" in done.stderr
    )
    sets = {
        row[0]: row[1:3]
        for row in (line.split() for line in done.stdout.splitlines())
        if row[:1] and row[0] in ("train", "dev", "test")
    }
    assert sets == {"train": ["9", "54"], "dev": ["1", "6"], "test": ["2", "12"]}
    tokens = (workplace / "data/tokens.txt").read_text().splitlines()
    assert len(tokens) == 31
    pers = re.findall(r"^%PER \d+\.\d\d \[ \d+ / \d+, \d+ ins, \d+ del, \d+ sub \]$", done.stdout, re.MULTILINE)
    assert len(pers) == 2
    num_test_tokens = sum(len(line.split()) - 1 for line in (workplace / "data/test/text").read_text().splitlines())
    assert f"/ {num_test_tokens}," in pers[-1]
    assert float(pers[-1].split()[1]) < 20
    path, *phones = done.stdout.splitlines()[-1].split(" ")
    assert re.search(r"/wave/s1\d+\.wav$", path)
    assert set(phones) <= {token.split()[0] for token in tokens[1:]}

    again = run_farsdat(workplace, workplace, *OPTIONS)
    assert re.findall(r"^%PER.*$", again.stdout, re.MULTILINE) == pers
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    assert "training is up to date" in again.stderr


@pytest.mark.usefixtures("first_run")
def test_the_last_stage_puts_the_networks_in_a_table(workplace, tmp_path):
    """A copy of the recipe with smaller networks, on the data of the first run."""
    copy_recipes(tmp_path)
    for path in (tmp_path / "conf").glob("textbook_*.yaml"):
        text = re.sub(r"hidden_size: \d+", "hidden_size: 6", path.read_text())
        path.write_text(re.sub(r"num_epochs: \d+", "num_epochs: 1", text))
    done = run_farsdat(tmp_path, workplace, "--stage", "7")
    lines = done.stdout.splitlines()
    (start,) = (index for index, line in enumerate(lines) if line.startswith("experiment  "))
    header, *rows = lines[start : start + 5]
    line = r"test: data/test, \d+ reference tokens, protocol as-is, 2 speakers"
    assert any(re.fullmatch(line, each) for each in lines[:start])
    assert header.endswith("dev PER  test PER")  # two speakers are too few for intervals
    fields = [row.split() for row in rows]
    assert [row[:6] for row in fields] == [
        ["textbook_lstm", "1", "lstm", "unidirectional", "1", "6"],
        ["textbook_lstm_deep", "1", "lstm", "unidirectional", "3", "6"],
        ["textbook_blstm", "1", "lstm", "bidirectional", "1", "6"],
        ["textbook_blstm_deep", "1", "lstm", "bidirectional", "3", "6"],
    ]
    # A layer of H blocks over D inputs has 4 H (D + H + 2) weights a direction, the output 31 (D + 1).
    layer = [4 * 6 * (inputs + 6 + 2) for inputs in (39, 6, 12)]
    assert [row[6] for row in fields] == [
        f"{count:,}"
        for count in (
            layer[0] + 31 * 7,
            layer[0] + 2 * layer[1] + 31 * 7,
            2 * layer[0] + 31 * 13,
            2 * layer[0] + 4 * layer[2] + 31 * 13,
        )
    ]
    pers = re.findall(r"^%PER (\d+\.\d\d) ", done.stdout, re.MULTILINE)
    assert [per for row in fields for per in row[-2:]] == pers
    differences = [line.split("  ") for line in lines[-2:]]
    assert [fields[0] for fields in differences] == [
        "3 layers - 1 layer (unidirectional, lstm, 6 blocks)",
        "3 layers - 1 layer (bidirectional, lstm, 6 blocks)",
    ]
    test_pers = [float(per) for per in pers[1::2]]
    for fields, shallow, deep in zip(differences, test_pers[::2], test_pers[1::2], strict=True):
        assert float([field for field in fields if field][3]) == pytest.approx(deep - shallow, abs=0.011)
