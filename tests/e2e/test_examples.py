"""Every program of examples/ runs, at a small scale."""

import ast
import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asrkit.corpora import mini
from asrkit.io.scp import read_table

SETS = {"train": 4, "dev": 2, "test": 2}  # speakers
EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(name: str, *args: object) -> list[str]:
    """The lines that an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def folder(tones, tmp_path_factory) -> Path:
    """The corpus of tones as a folder of audio with a table."""
    folder = tmp_path_factory.mktemp("speech")
    shutil.copytree(tones / "audio", folder / "wav")
    with open(folder / "corpus.csv", "w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["audio", "phones", "speaker", "set"])
        for name in ("train", "dev", "test"):
            utt2spk = read_table(tones / "data" / name / "utt2spk")
            for utt_id, phones in read_table(tones / "data" / name / "text").items():
                table.writerow([f"wav/{utt_id}.wav", phones, utt2spk[utt_id], name])
    return folder


def test_every_example_is_tested_and_described():
    tests, page = Path(__file__).read_text(encoding="utf-8"), (EXAMPLES / "README.md").read_text(encoding="utf-8")
    names = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")]
    assert len(names) >= 4
    assert [name for name in names if f'"{name}"' not in tests or f"]({name})" not in page] == []


@pytest.mark.slow
def test_features_for_pytorch(folder):
    lines = run_example("features_for_pytorch.py", folder, 12)
    assert lines[0].endswith(", 3 phones")
    assert ", 39), " in lines[0]
    losses = [float(line.rpartition(" ")[2]) for line in lines[1:]]
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


def test_plot_posteriors(tones, tmp_path):
    audio, text = sorted((tones / "audio").glob("test*.wav"))[0], read_table(tones / "data/test/text")
    phones = text[audio.stem]
    pictures = tmp_path / "recognized.png", tmp_path / "aligned.png"
    recognized = run_example("plot_posteriors.py", tones / "exp", audio, pictures[0])
    aligned = run_example("plot_posteriors.py", tones / "exp", audio, pictures[1], phones)
    assert aligned == [f"{pictures[1]} {phones}"]
    assert len(recognized[0].split()) > 1
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_train_on_folder(folder, tones, tmp_path):
    audio, exp = folder / "wav" / "test0-0.wav", tmp_path / "exp"
    args = folder, exp, audio, tones / "config.yaml"
    lines = run_example("train_on_folder.py", *args)
    (rate,) = [line for line in lines if line.startswith("%PER")]
    assert float(rate.split()[1]) < 20
    spans = [line.split() for line in lines[lines.index(rate) + 1 :]]
    assert [phone for _, _, phone, _ in spans] == read_table(tones / "data/test/text")["test0-0"].split()
    trained = (exp / "final.pt").stat().st_mtime_ns
    assert run_example("train_on_folder.py", *args)[-len(spans) :] == lines[-len(spans) :]
    assert (exp / "final.pt").stat().st_mtime_ns == trained


def test_training_takes_less_than_30_lines_of_code():
    source = (EXAMPLES / "train_on_folder.py").read_text(encoding="utf-8")
    code = ast.unparse(ast.parse(source).body[1:])  # without the text at its head
    assert 10 < len(code.splitlines()) < 30


def test_the_notebook_is_stripped_and_well_formed():
    notebook = json.loads((EXAMPLES / "mini_recipe.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    cells = notebook["cells"]
    assert len({cell["id"] for cell in cells}) == len(cells) > 10
    assert {cell["cell_type"] for cell in cells} == {"code", "markdown"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert sum(cell["metadata"].get("tags") == ["parameters"] for cell in code) == 1


@pytest.mark.slow
def test_mini_recipe(tmp_path, monkeypatch, capsys):
    """The cells of "mini_recipe.ipynb", with fewer speakers and a small network."""
    pytest.importorskip("espeakng_loader", reason="the mini corpus's library is an optional extra")
    speakers = {name: [spk for spk in mini.plan_speakers(mini.DEFAULT_SEED) if spk.set_name == name] for name in SETS}
    few = [spk for name, number in SETS.items() for spk in speakers[name][:number]]
    monkeypatch.setattr(mini, "plan_speakers", lambda seed: few)
    monkeypatch.chdir(EXAMPLES)
    namespace: dict[str, Any] = {}
    for cell in json.loads((EXAMPLES / "mini_recipe.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), namespace)
        if cell["metadata"].get("tags") == ["parameters"]:
            model = dataclasses.replace(namespace["config"].model, num_layers=1, hidden_size=24)
            training = dataclasses.replace(namespace["config"].training, num_epochs=2)
            small = dataclasses.replace(namespace["config"], model=model, training=training)
            namespace |= {"work": tmp_path, "config": small, "num_jobs": 1}
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["train", "dev", "test"]
    assert len([line for line in lines if line.startswith("%PER")]) >= 1
    assert any(line.startswith("boundaries ") for line in lines)
    *_, start, end, phone = lines[-1].split()
    assert 0 < float(start) < float(end)
    assert phone in mini.PHONES
