"""recipes/speechocean762/run.sh from stage 0 to 8 on a small tree of tones in that corpus's layout."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.corpora import speechocean762
from asrkit.inference.model_list import read_model_info
from asrkit.inference.onnx_model import read_model_metadata
from asrkit.inference.recognizer import load_recognizer
from asrkit.models.config import ModelConfig
from asrkit.training.config import TrainingConfig
from tests.recipe_tree import copy_recipes, run_recipe

pytestmark = pytest.mark.slow
TONES_HZ = {"AA": 400, "IY": 1000, "S": 2500}
CONFIG = """\
model: {num_layers: 1, hidden_size: 24, dropout: 0.1, self_conditioning: false, stack: 3, skip: 3}
training: {num_epochs: 8, batch_size: 4, max_lr: 0.02, input_noise: 0.2,
  warmup: 0.12, weight_decay: 0.01, augment: {speeds: [], vtlp: 0, time_masks: 0}}
"""


def make_corpus(root: Path) -> None:
    """11 speakers to train on, of whom every tenth is dev, and 2 to test on; four utterances of two words each."""
    rng = np.random.default_rng(1)
    phone_lines = []
    for part, spks in (("train", range(1, 12)), ("test", range(21, 23))):
        rows: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": [], "spk2gender": [], "spk2age": []}
        for spk in spks:
            utt_ids = [f"{spk:04d}{number:05d}" for number in range(4)]
            for utt_id in utt_ids:
                path = f"WAVE/SPEAKER{spk:04d}/{utt_id}.WAV"
                pieces = [np.zeros(1600)]
                for word in range(2):
                    phones = [str(phone) for phone in rng.choice(list(TONES_HZ), rng.integers(1, 4))]
                    for phone in phones:
                        pieces += [0.3 * np.sin(2 * np.pi * TONES_HZ[phone] * np.arange(2400) / 16000), np.zeros(800)]
                    places = ["_S"] if len(phones) == 1 else ["_B", *["_I"] * (len(phones) - 2), "_E"]
                    stressed = [phone + ("0" if phone != "S" else "") for phone in phones]
                    labels = " ".join(phone + place for phone, place in zip(stressed, places, strict=True))
                    phone_lines.append(f"{utt_id}.{word}\t{labels}")
                samples = np.concatenate(pieces)
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(root / path, samples + rng.normal(0, 0.003, len(samples)), 16000)
                rows["wav.scp"].append(f"{utt_id}\t{path}")
                rows["text"].append(f"{utt_id}\tTWO WORDS")
                rows["utt2spk"].append(f"{utt_id}\t{spk:04d}")
            rows["spk2gender"].append(f"{spk:04d}\t{'mf'[spk % 2]}")
            rows["spk2age"].append(f"{spk:04d}\t30")
        (root / part).mkdir()
        for name, lines in rows.items():
            (root / part / name).write_text("".join(line + "\n" for line in lines))
    (root / "resource").mkdir()
    (root / "resource/text-phone").write_text("".join(line + "\n" for line in phone_lines))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipe")
    copy_recipes(root)
    make_corpus(root / "corpus")
    (root / "small.yaml").write_text(CONFIG)
    return root


def run_speechocean762(workplace, *options):
    defaults = ("--data-root", "data", "--exp", "exp", "--nj", "2", "--config", "small.yaml")
    return run_recipe(workplace, "speechocean762", *defaults, *options)


@pytest.fixture(scope="module")
def first_run(workplace):
    """Stages 0 to 6."""
    done = run_speechocean762(workplace, "--corpus", "corpus")
    assert done.returncode == 0, done.stderr
    return done


def test_a_stage_without_data_names_the_stage_that_makes_them(workplace):
    early = run_speechocean762(workplace, "--stage", "1", "--data-root", "none")
    assert early.returncode == 1
    assert "made by stage 0 (asrkit prepare)" in early.stderr


def test_the_stages_run_and_a_second_run_skips_what_is_done(workplace, first_run):
    done = first_run
    assert [int(n) for n in re.findall(r"^== stage (\d):", done.stdout, re.MULTILINE)] == list(range(7))
    pers = re.findall(r"^%PER \d+\.\d\d \[ \d+ / \d+, \d+ ins, \d+ del, \d+ sub \]$", done.stdout, re.MULTILINE)
    assert len(pers) == 2
    num_test_tokens = sum(len(line.split()) - 1 for line in (workplace / "data/test/text").read_text().splitlines())
    assert f"/ {num_test_tokens}," in pers[-1]
    assert float(pers[-1].split()[1]) < 20
    transcript = done.stdout.splitlines()[-1].split(" ")
    assert transcript[0].endswith("/002100000.WAV")
    assert set(transcript[1:]) <= set(TONES_HZ)

    before = {path: path.stat().st_mtime_ns for path in workplace.rglob("*") if path.is_file()}
    again = run_speechocean762(workplace, "--corpus", "corpus")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
    assert re.findall(r"^%PER.*$", again.stdout, re.MULTILINE) == pers
    assert [path.name for path, time in before.items() if path.stat().st_mtime_ns != time] == []


@pytest.mark.usefixtures("first_run")
def test_the_findings_are_a_table_of_means_over_seeds(workplace, tmp_path):
    """A copy of the recipe with one small network, on the data of the first run."""
    copy_recipes(tmp_path)
    (tmp_path / "conf/findings.yaml").write_text("{model: {hidden_size: 6}, training: {num_epochs: 2}}\n")
    grid = tmp_path / "tools/findings.sh"
    text = re.sub(r'findings_seeds=".*"', 'findings_seeds="1 2"', grid.read_text())
    grid.write_text(re.sub(r'findings_networks="[^"]*"', 'findings_networks="lstm 1 bi"', text))
    options = ("--stage", "7", "--data-root", "data", "--exp", "exp/small", "--config", "small.yaml")

    done = run_recipe(tmp_path, "speechocean762", *options, "--nj", "2", cwd=workplace)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    found = re.findall(r"^exp/findings/(\S+): test %PER (\S+) ", done.stdout, re.MULTILINE)
    pers = {experiment: float(per) for experiment, per in found}
    row = lines[-1].split()
    assert row[:6] == ["lstm_1_bi", "2", "lstm", "bidirectional", "1", "6"]
    by_seed = [pers[f"lstm_1_bi.{seed}"] for seed in (1, 2)]
    assert float(row[-4]) == pytest.approx(sum(by_seed) / 2, abs=0.011)
    assert row[-3:] == [f"{min(by_seed):.2f}", "to", f"{max(by_seed):.2f}"]

    experiment = workplace / "exp/findings/lstm_1_bi.2"
    config = load_config(experiment / "config.yaml", ExperimentConfig)
    assert config.model == ModelConfig(num_layers=1, hidden_size=6)
    assert config.training == TrainingConfig(seed=2, num_epochs=2)
    log = experiment / "findings.log"
    assert "dev PER" in log.read_text()
    again = run_recipe(tmp_path, "speechocean762", *options, "--nj", "1", cwd=workplace)
    assert again.stdout.splitlines()[-6:] == lines[-6:]
    assert "training is up to date" in log.read_text()


@pytest.mark.usefixtures("first_run")
def test_the_release_makes_models_that_tell_what_they_are(workplace, tmp_path):
    """From the data of the first run, with small networks; a second run gives the same files."""
    copy_recipes(tmp_path)
    streaming = (
        CONFIG.replace("{num_layers", "{bidirectional: false, num_layers") + "features: {cmvn: speech_running}\n"
    )
    for name, config in {"blstm_ctc": CONFIG, "lstm_ctc_streaming": streaming}.items():
        (tmp_path / f"conf/{name}.yaml").write_text(config)
    options = (
        "--stage",
        "8",
        "--data-root",
        "data",
        "--exp",
        "released/x",
        "--config",
        "small.yaml",
        "--models",
        "models",
    )
    done = run_recipe(tmp_path, "speechocean762", *options, "--nj", "2", cwd=workplace)
    assert done.returncode == 0, done.stderr
    files = {name: workplace / f"models/{name}.onnx" for name in ("english", "english-streaming")}
    contents = {name: path.read_bytes() for name, path in files.items()}
    audio = workplace / "corpus/WAVE/SPEAKER0021/002100000.WAV"
    for name, path in files.items():
        info = read_model_info(name, path)
        assert (info.corpus, info.is_streaming) == (speechocean762.INFO, name == "english-streaming")
        assert (info.test.name, info.test.num_utterances) == ("speechocean762 test", 8)
        assert f"\nPER {info.test}\n" in done.stdout
        assert read_model_metadata(path).lm is not None
        assert set(load_recognizer(path).transcribe(audio).phones) <= set(TONES_HZ)
    assert load_recognizer(files["english"]).transcribe(audio).phones
    again = run_recipe(tmp_path, "speechocean762", *options, "--nj", "1", cwd=workplace)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("training is up to date") == 2
    assert {name: path.read_bytes() for name, path in files.items()} == contents
