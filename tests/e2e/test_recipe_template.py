"""recipes/template/run.sh from stage 0 to 6 on corpora of tones, whose phones are the awkward symbols that exist."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.recipe_tree import copy_recipes, run_recipe

pytestmark = pytest.mark.slow
RATE = 16000
# FarsDat's symbols, CSV's and ARPA's and shells' special characters, combining marks alone and in pairs, a tie bar,
# a tone letter, right-to-left script and a character outside the basic plane.
SYMBOLS = ["'", "#", ",", "]", "<", "\\", '"', "a\u0303", "\u0303", "t͡s", "˥", "ش", "$x|", "***", "𝼆"]
CONFIG = """\
model: {num_layers: 1, hidden_size: 40, dropout: 0.0, self_conditioning: false, stack: 3, skip: 3}
training: {num_epochs: 14, batch_size: 4, max_lr: 0.02, input_noise: 0.1,
  warmup: 0.12, weight_decay: 0.01, augment: {speeds: [], vtlp: 0, time_masks: 0}}
"""


def make_recording(path: Path, rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """A tone for each phone, each two thirds of an octave or so above the last; gives phones with start and end."""
    pieces, labels, now = [np.zeros(800)], [], 0.05
    for index in rng.permutation(len(SYMBOLS))[:8]:
        length = int(rng.integers(1600, 2400))
        pieces += [0.3 * np.sin(2 * np.pi * 150 * 1.3**index * np.arange(length) / RATE), np.zeros(800)]
        labels.append((SYMBOLS[index], now, now + length / RATE))
        now += (length + 800) / RATE
    samples = np.concatenate(pieces)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples + rng.normal(0, 0.003, len(samples)), RATE)
    return labels


def make_corpus(root: Path) -> dict[str, list[tuple[str, float, float]]]:
    """Ten speakers with six recordings each, under names with blanks; labels by path without ending."""
    rng = np.random.default_rng(1)
    return {
        f"spk {spk}/no {number}": make_recording(root / f"spk {spk}/no {number}.wav", rng)
        for spk in range(10)
        for number in range(6)
    }


def write_table(root: Path, labels) -> None:
    with open(root / "corpus.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["audio", "phones", "speaker", "set"])
        for name, phones in labels.items():
            spk = int(name[4])
            row_set = {8: "dev", 9: "test"}.get(spk, "train")
            writer.writerow([f"{name}.wav", " ".join(phone for phone, _, _ in phones), f"s{spk}", row_set])


def write_textgrids(root: Path, labels) -> None:
    for name, phones in labels.items():
        length = soundfile.info(root / f"{name}.wav").duration
        intervals, now = [], 0.0
        for phone, start, end in phones:
            intervals += [(now, start, ""), (start, end, phone)]
            now = end
        intervals.append((now, length, ""))
        lines = ['File type = "ooTextFile"', '"TextGrid"', 0, length, "<exists>", 1, '"IntervalTier"', '"phones"']
        lines += [0, length, len(intervals)]
        for start, end, phone in intervals:
            lines += [start, end, '"' + phone.replace('"', '""') + '"']
        (root / f"{name}.TextGrid").write_text("".join(f"{line}\n" for line in lines), encoding="utf-16")


def run_template(workplace: Path, *options: str) -> subprocess.CompletedProcess[str]:
    defaults = ("--corpus", "corpus", "--data-root", "data", "--exp", "exp", "--nj", "2", "--config", "small.yaml")
    return run_recipe(workplace, "template", *defaults, *options)


def run_asrkit(workplace: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "asrkit", *args], cwd=workplace, capture_output=True, text=True)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    copy_recipes(tmp_path)
    (tmp_path / "small.yaml").write_text(CONFIG)
    return tmp_path


def test_any_symbol_passes_through_all_stages(workplace):
    labels = make_corpus(workplace / "corpus")
    write_table(workplace / "corpus", labels)
    done = run_template(workplace)
    assert done.returncode == 0, done.stderr
    assert [int(n) for n in re.findall(r"^== stage (\d):", done.stdout, re.MULTILINE)] == list(range(7))
    data, exp = workplace / "data", workplace / "exp"
    tokens = (data / "tokens.txt").read_text(encoding="utf-8").split("\n")
    assert tokens == ["<blk> 0", *(f"{symbol} {index}" for index, symbol in enumerate(sorted(SYMBOLS), 1)), ""]

    spoken = {name: [phone for phone, _, _ in phones] for name, phones in labels.items() if name.startswith("spk 9")}
    refs = [line.split(" ")[1:] for line in (data / "test/text").read_text(encoding="utf-8").split("\n")[:-1]]
    assert refs == list(spoken.values())
    for name in ("train", "dev", "test"):
        checked = run_asrkit(workplace, "validate", f"data/{name}")
        assert checked.returncode == 0, checked.stdout

    # The tones are told apart, so that the hypotheses hold the symbols themselves.
    scored = run_asrkit(workplace, "score", "data/test/text", "exp/decode_test/hyp")
    assert scored.returncode == 0, scored.stderr
    per = re.search(r"^%PER (\d+\.\d\d) \[ \d+ / 48,", scored.stdout, re.MULTILINE)
    assert float(per[1]) < 20
    hyps = (exp / "decode_test/hyp").read_text(encoding="utf-8")
    assert {phone for line in hyps.split("\n")[:-1] for phone in line.split(" ")[1:]} <= set(SYMBOLS)
    report = json.loads((exp / "decode_test/report.json").read_text(encoding="utf-8"))
    assert {row["phone"] for row in report["phones"]} >= {phone for ref in refs for phone in ref}

    told = run_asrkit(workplace, "transcribe", "--json", "--model", "exp", "corpus/spk 9/no 0.wav")
    assert told.returncode == 0, told.stderr
    phones = [phone["phone"] for phone in json.loads(told.stdout)["phones"]]
    assert len(set(phones) & set(spoken["spk 9/no 0"])) >= 5
    line = done.stdout.splitlines()[-1]
    assert line == f"{workplace.resolve()}/corpus/spk 9/no 0.wav {' '.join(phones)}"

    again = run_template(workplace, "--stop-stage", "0")
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "data: up to date")


def test_label_files_and_the_options_of_stage_0(workplace):
    labels = make_corpus(workplace / "corpus")
    write_textgrids(workplace / "corpus", labels)
    options = ["--speaker", "^spk (.)/", "--dev-speakers", "8", "--test-speakers", "9", "--stop-stage", "0"]
    done = run_template(workplace, *options, "--tier", "phones")
    assert done.returncode == 0, done.stderr
    for name, num_utts in (("train", 48), ("dev", 6), ("test", 6)):
        checked = run_asrkit(workplace, "validate", f"data/{name}")
        assert checked.returncode == 0, checked.stdout
        assert f": {num_utts} utterances, " in checked.stdout
    ctm = (workplace / "data/test/phones.ctm").read_text(encoding="utf-8").split("\n")[:8]
    for line, (phone, start, end) in zip(ctm, labels["spk 9/no 0"], strict=True):
        utt, channel, begin, duration, symbol = line.split(" ")
        assert (utt, channel, symbol) == ("9-spk_9-no_0", "1", phone)
        assert float(begin) == pytest.approx(start, abs=1e-5)
        assert float(duration) == pytest.approx(end - start, abs=1e-5)

    done = run_template(workplace, *options, "--silence", "sil")
    assert done.returncode == 0, done.stderr
    first = (workplace / "data/test/text").read_text(encoding="utf-8").split("\n")[0].split(" ")
    assert first[1::2] == ["sil"] * 9
    assert first[2::2] == [phone for phone, _, _ in labels["spk 9/no 0"]]


def test_a_copy_of_the_template_is_a_recipe(tmp_path):
    """What docs/own-corpus.md tells to do, up to stage 1."""
    copy_recipes(tmp_path)
    shutil.copytree(tmp_path / "recipes/template", tmp_path / "recipes/mine")
    labels = make_corpus(tmp_path / "speech")
    write_table(tmp_path / "speech", labels)
    done = run_recipe(tmp_path, "mine", "--corpus", "speech", "--stop-stage", "1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "recipes/mine/data/train/feats.scp").exists()


def test_faults_end_the_recipe_with_nothing_written(workplace):
    make_recording(workplace / "corpus/a.wav", np.random.default_rng(1))
    (workplace / "corpus/corpus.csv").write_text("audio,phones\na.wav,\nb.wav,x\n")
    done = run_template(workplace)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 2 and "corpus.csv:2: no phones" in errors[0] and "corpus.csv:3: no audio" in errors[1]
    assert not (workplace / "data").exists()
