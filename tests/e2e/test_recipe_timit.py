"""recipes/timit/run.sh from stage 0 to 6 on a made-up copy of tones, in one layout and one inventory after another."""

import re

import pytest

from asrkit.lang.tokens import TokenTable
from tests.recipe_tree import copy_recipes, run_recipe
from tests.timit_tree import LAYOUTS, NLTK, files_of, make_tree

pytestmark = pytest.mark.slow

CONFIG = """\
model: {num_layers: 1, hidden_size: 24, dropout: 0.1, self_conditioning: false, stack: 3, skip: 3}
training: {num_epochs: 8, batch_size: 4, max_lr: 0.02, input_noise: 0.2,
  warmup: 0.12, weight_decay: 0.01, augment: {speeds: [], vtlp: 0, time_masks: 0}}
"""
PER_LINE = re.compile(r"^%PER \d+\.\d\d \[ \d+ / \d+, \d+ ins, \d+ del, \d+ sub \]$", re.MULTILINE)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A copy of the recipe, a corpus and a small configuration."""
    root = tmp_path_factory.mktemp("timit")
    copy_recipes(root)
    make_tree(root / "corpus", LAYOUTS["data-upper"], num_train=6, num_dev=2, num_core=2, length=1600)
    (root / "small.yaml").write_text(CONFIG)
    return root


def run_timit(workplace, *options):
    return run_recipe(workplace, "timit", "--nj", "2", "--config", "small.yaml", *options)


def test_all_stages_score_39_phones_under_kaldis_protocol(workplace):
    done = run_timit(workplace, "--corpus", "corpus", "--data-root", "data", "--exp", "exp")
    assert done.returncode == 0, done.stderr
    assert [int(n) for n in re.findall(r"^== stage (\d):", done.stdout, re.MULTILINE)] == list(range(7))
    assert "train: 6 of 462 speakers, 48 of 3696 utterances" in done.stderr
    pers = PER_LINE.findall(done.stdout)
    assert len(pers) == 2
    labels = [
        files_of(LAYOUTS["data-upper"], workplace / "corpus", "test", spk, sentence)["phn"].read_text().splitlines()
        for spk in ("mdab0", "mwbt0")
        for sentence in ("si648", "si1027", "si1657", "sx37", "sx127", "sx217", "sx307", "sx397")
    ]
    assert f" / {sum(map(len, labels))}," in pers[-1]  # closures folded into sil are not merged
    assert float(pers[-1].split()[1]) < 20
    assert (
        len(re.findall(r"protocol kaldi: folded to 39 phones; silence scored; adjacent silences kept", done.stdout))
        == 2
    )
    assert set((workplace / "data/test/text").read_text().split()) >= {"cl", "sil", "t"}
    transcript = done.stdout.splitlines()[-1].split(" ")
    assert transcript[0].endswith("/TEST/DR1/MDAB0/SI1027.WAV")
    assert set(transcript[1:]) <= {"sil", "aa", "iy", "cl", "t"}

    again = run_timit(workplace, "--corpus", "corpus", "--data-root", "data", "--exp", "exp")
    assert again.returncode == 0, again.stderr
    assert PER_LINE.findall(again.stdout) == pers
    assert "data: up to date" in again.stdout


@pytest.mark.parametrize("phones", [61, 39])
def test_train_on_61_or_39_phones(workplace, phones):
    (workplace / f"brief{phones}.yaml").write_text(CONFIG.replace("num_epochs: 8", "num_epochs: 1"))
    options = ["--num-phones", str(phones), f"--data-root=data{phones}", f"--exp=exp{phones}", "--stop-stage", "5"]
    done = run_timit(workplace, "--corpus", "corpus", *options, "--config", f"brief{phones}.yaml")
    assert done.returncode == 0, done.stderr
    assert len(TokenTable.read(workplace / f"data{phones}/tokens.txt").phones) == phones
    assert len(PER_LINE.findall(done.stdout)) == 2


def test_stage_0_with_the_full_test_set_and_on_nltks_sample(workplace, tmp_path):
    done = run_timit(workplace, "--corpus", "corpus", "--test-set", "full", "--data-root", "full", "--stop-stage", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split()[:3] == ["test", "4", "40"]
    make_tree(tmp_path / "sample", NLTK)
    done = run_timit(workplace, "--corpus", str(tmp_path / "sample"), "--data-root", "nltk", "--stop-stage", "0")
    assert done.returncode == 0, done.stderr
    assert "no dev is made" in done.stderr and "no test is made" in done.stderr
    assert (workplace / "nltk/train/phones.ctm").exists()


def test_damage_ends_the_run_at_stage_0(workplace, tmp_path):
    make_tree(tmp_path / "corpus", LAYOUTS["lower"])
    labels = files_of(LAYOUTS["lower"], tmp_path / "corpus", "train", "fcjf0", "sx37")["phn"]
    labels.write_text("0 100 h#\n50 200 ?\n")
    done = run_timit(workplace, "--corpus", str(tmp_path / "corpus"), "--data-root", "damaged")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert [line.startswith(f"asrkit prepare: error: {labels}:2: ") for line in errors] == [True, True]
    assert "stage 1" not in done.stdout
    assert not (workplace / "damaged").exists()


def test_wrong_values_of_its_own_options_are_wrong_usage(workplace):
    for options in (["--num-phones", "40"], ["--num-phones"], ["--test-set", "half"], ["--fones", "48"]):
        assert run_timit(workplace, "--corpus", "corpus", "--data-root", "none", *options).returncode == 2
    assert not (workplace / "none").exists()
