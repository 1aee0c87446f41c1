"""Every program of examples/ runs, at a small scale."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asrkit.io.scp import read_table

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
    assert len(names) >= 2
    assert [name for name in names if f'"{name}"' not in tests or f"]({name})" not in page] == []


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
