"""Benchmarks run in an environment that need not have what they compare with."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.formats.data_dir import write_data_dir
from asrkit.formats.transcripts import read_transcripts
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.per import score
from asrkit.types import Utterance
from tests.loud_model import loud_model, loud_speech

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "measured"),
    [("alignment", "microseconds an utterance"), ("transducer_loss", "milliseconds a batch")],
)
def test_the_last_line_is_json_and_a_peer_that_is_missing_is_named(name, measured):
    hide = "import runpy, sys; sys.modules['torchaudio'] = None; sys.argv[1:] = ['--utts', '2', '--rounds', '1']\n"
    result = subprocess.run(
        [sys.executable, "-c", hide + f"runpy.run_module('tests.bench.{name}', run_name='__main__')"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "torchaudio: left out, it cannot be imported: " in result.stdout
    assert measured in result.stdout
    assert json.loads(result.stdout.splitlines()[-1]) == {"ratios": {}}


def test_training_is_compared_with_what_there_is(tmp_path: Path):
    (tmp_path / "speechbrain.py").write_text("raise ImportError('not here')\n")
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.training", "--quick"], env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "speechbrain: left out, it cannot be imported: not here" in result.stdout
    ratios = json.loads(result.stdout.splitlines()[-1])["ratios"]
    assert list(ratios) == ["packed", "bare_lstm_overhead", "two_cores"]
    assert all(ratio > 0 for ratio in ratios.values())


def make_tones(root: Path, numbers: dict[str, int]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Data directories of so many utterances of two tones each, and their token table. Returns: their transcripts."""
    rng = np.random.default_rng(0)
    refs = {}
    for name, number in numbers.items():
        utts = []
        for i in range(number):
            phones = tuple(rng.permutation(["a", "b"]).tolist())
            tones = [np.sin(np.arange(4800) * {"a": 0.1, "b": 0.9}[phone]) for phone in phones]
            path = root / f"{name}{i}.wav"
            soundfile.write(path, 0.3 * np.concatenate(tones) + 0.01 * rng.standard_normal(9600), 16000)
            utts.append(Utterance(f"{name}{i}", f"{name}-speaker", str(path), phones))
        write_data_dir(root / name, utts, {utt.utt_id: 0.6 for utt in utts})
        refs[name] = {utt.utt_id: utt.phones for utt in utts}
    TokenTable(["a", "b"]).write(root / "tokens.txt")
    return refs


def test_the_plain_baseline_trains_and_leaves_its_hypotheses(tmp_path: Path):
    refs = make_tones(tmp_path, {"train": 6, "dev": 2, "test": 2})
    for name in refs:
        extract_data_dir(tmp_path / name, FeatureConfig(), num_jobs=1)
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.plain_ctc", "--data", tmp_path, "--out", tmp_path / "out", "--epochs", "15",
         "--test"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert len(lines) == 16
    found = {name: score(refs[name], read_transcripts(tmp_path / "out" / name)) for name in ("dev", "test")}
    assert lines[-1].startswith(f"dev PER {found['dev'].per:.2f} %, ")
    assert found["dev"].per == min(float(line.split()[4]) for line in lines[:-1])


def test_presets_are_trained_within_their_time_and_not_again(tmp_path: Path):
    """Frames of their own, two phases: each gets one epoch a phase, for no time is given."""
    refs = make_tones(tmp_path, {"train": 3, "dev": 2, "test": 2})
    command = [
        sys.executable,
        "-m",
        "tests.bench.presets",
        "--data",
        tmp_path,
        "--out",
        tmp_path / "out",
        "--cpu",
        "0.001",
    ]
    tables = []
    for _ in range(2):
        result = subprocess.run(
            [*command, "lstm_ctc_1layer", "graves2013_ctc_3l_421h_uni"],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
        tables.append(result.stdout.splitlines())
    assert tables[0] == tables[1]
    assert "epoch 1/1" not in result.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables[0][2:]]
    assert [row[:2] for row in cells] == [
        ["`lstm_ctc_1layer`", "1 of 17"],
        ["`graves2013_ctc_3l_421h_uni`", "2 of 300"],
    ]
    for row in cells:
        for name, per in zip(("dev", "test"), row[3:], strict=True):
            hyps = read_transcripts(tmp_path / "out" / row[0].strip("`") / f"greedy_{name}" / "hyp")
            assert per == f"{score(refs[name], hyps).per:.2f}"


def test_systems_are_compared_at_the_epochs_that_are_given_or_fit(tmp_path: Path):
    """A second run trains nothing and prints the same table; its rates are those of the hypotheses."""
    refs = make_tones(tmp_path, {"train": 3, "dev": 2, "test": 5})["test"]
    command = [
        *(sys.executable, "-m", "tests.bench.systems", "rnnt_lstm", "one_vector", "--data", tmp_path),
        *("--out", tmp_path / "out", "--cpu", "0.001", "--seeds", "1", "2", "--epochs", "rnnt_lstm=2"),
        *("--set", "model.hidden_size=8", "--set", "model.num_layers=1", "--set", "training.batch_size=2"),
    ]
    done = [
        subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True)
        for _ in range(2)
    ]
    assert done[0].stdout == done[1].stdout and "epoch 1/" not in done[1].stderr
    assert "--epochs one_vector=1\n" in done[0].stderr and "--epochs rnnt_lstm" not in done[0].stderr
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in done[0].stdout.splitlines()]
    assert [name.split()[-1] for name in cells[0][-4:]] == ["phones"] * 4
    assert [row[:2] for row in cells[2:]] == [["rnnt_lstm", "2"], ["one_vector", "1"]]
    for row in cells[2:]:
        found = [
            score(refs, read_transcripts(tmp_path / "out" / f"{row[0]}.{seed}" / "decode_test/hyp")) for seed in (1, 2)
        ]
        assert float(row[4]) > 0 and row[6] == f"{np.mean([each.per for each in found]):.2f}"
        assert (
            row[-4]
            == f"{np.mean([sum(each.per_utt[u].num_errors for u in list(refs)[:2]) for each in found]) * 25:.1f}"
        )
    wrong = subprocess.run(
        [*command, "--epochs", "lstm=3"], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert wrong.returncode == 2 and "'lstm=3'; expected SYSTEM=N" in wrong.stderr


def test_a_long_stream_is_compared_with_its_utterances(tmp_path: Path):
    """A network that hears loud frames as "a" and others as silence: it is right, except in the second transcript."""
    (tmp_path / "loud.onnx").write_bytes(loud_model(quiet="sil"))
    quiet = np.zeros(4800, np.float32)
    utts = []
    for name, phones in (("u1", ("sil", "a", "sil")), ("u2", ("sil", "e", "sil", "a", "sil"))):
        path = tmp_path / f"{name}.wav"
        pieces = [loud_speech() if phone in "ae" else quiet for phone in phones]
        soundfile.write(path, np.concatenate(pieces).astype(np.int16), 16000)
        utts.append(Utterance(name, "s1", str(path), phones))
    write_data_dir(tmp_path / "data", utts, {"u1": 0.9, "u2": 1.5})
    result = subprocess.run(
        [sys.executable, "-m", "tests.bench.long_stream", "--model", tmp_path / "loud.onnx", "--data",
         tmp_path / "data", "--endpoint", "9"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "as transcribe has them: 2 of 2 utterances\n" in result.stdout
    assert "the joined stream has the phones of transcribe: yes\n" in result.stdout
    found = json.loads(result.stdout.splitlines()[-1])
    assert found.pop("growth_mb") < 50
    # One error in eight phones; joined, the silences at the ends of the first and of the second are one.
    assert found == {"equal": 1.0, "alone": 12.5, "stream": 14.2857, "stream_9": 14.2857}
