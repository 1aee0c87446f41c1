"""What takes long to load is loaded only by what needs it."""

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

HEAVY = ("torch", "torch._dynamo", "torchaudio", "librosa", "numba", "matplotlib", "scipy", "onnx")


def run_python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)


def heavy_after(code: str, *args: str | Path) -> tuple[str, str]:
    """Run `code` in a Python of its own; its standard output, and the heavy modules that it had loaded at its end."""
    report = f"\nimport sys\nprint('heavy:', *(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    result = run_python(code + report, *args)
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr.rpartition("heavy:")[2].strip()


RUN_VERB = """
import sys
from asrkit.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as error:
    status = error.code
assert status == 0, status
"""


TRAIN_AND_LOAD = """
import sys
from pathlib import Path
import numpy as np
import torch
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.experiment import load_experiment, make_model, save_experiment
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import DecoderConfig
from asrkit.training.config import TrainingConfig
from asrkit.training.optim import OPTIMIZERS, make_optimizer, restore_optimizer
for name in OPTIMIZERS:
    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(model, TrainingConfig(optimizer=name))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    restore_optimizer(optimizer, optimizer.state_dict())
tokens, stats = TokenTable(["a", "b"]), np.append(np.ones((2, 13)), [[9.0], [0.0]], axis=1)
transformer = DecoderConfig(layers="transformer")
for settings in ({"head": "joint"}, {"head": "joint", "decoder": transformer}, {"head": "transducer"}):
    config = ExperimentConfig(model=ModelConfig(**settings))
    save_experiment(Path(sys.argv[1]), config, tokens, make_model(config, tokens), stats)
    load_experiment(Path(sys.argv[1]))
"""


def test_training_and_loading_need_torch_without_its_compiler(tmp_path: Path) -> None:
    assert heavy_after(TRAIN_AND_LOAD, tmp_path)[1] == "torch"


def test_the_package_is_light() -> None:
    assert heavy_after("import asrkit") == ("", "")


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["validate", "--help"], ["score", "--help"], ["compare", "--help"]]
)
def test_help_is_light(args: list[str]) -> None:
    stdout, heavy = heavy_after(RUN_VERB, *args)
    assert "asrkit" in stdout
    assert heavy == ""


def test_scoring_is_light(tmp_path: Path) -> None:
    ref, hyp = tmp_path / "ref", tmp_path / "hyp"
    ref.write_text("u1 a b c d\n")
    hyp.write_text("u1 a x c\n")
    stdout, heavy = heavy_after(RUN_VERB, "score", ref, hyp)
    assert stdout.splitlines()[-1] == "%PER 50.00 [ 2 / 4, 0 ins, 1 del, 1 sub ]"
    assert heavy == ""
    assert heavy_after(RUN_VERB, "compare", ref, hyp, ref)[1] == ""


def test_reporting_is_light(tmp_path: Path) -> None:
    data, hyp = tmp_path / "data", tmp_path / "hyp"
    data.mkdir()
    for name, row in {"wav.scp": "u1 u1.wav", "text": "u1 a b", "utt2spk": "u1 s1"}.items():
        (data / name).write_text(row + "\n")
    hyp.write_text("u1 a\n")
    stdout, heavy = heavy_after(RUN_VERB, "report", "--data", data, "--hyp", hyp, "--out", tmp_path / "out")
    assert stdout.splitlines()[-1] == "%PER 50.00 [ 1 / 2, 0 ins, 1 del, 0 sub ]"
    assert heavy == ""


def test_validating_is_light(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "u1.wav"), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(16000)
        audio.writeframes(bytes(32000))
    for name, row in {
        "wav.scp": f"u1 {tmp_path}/u1.wav",
        "text": "u1 a b",
        "utt2spk": "u1 s1",
        "spk2utt": "s1 u1",
        "utt2dur": "u1 1.000",
    }.items():
        (tmp_path / name).write_text(row + "\n")
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n")
    _, heavy = heavy_after(RUN_VERB, "validate", tmp_path, "--tokens", tmp_path / "tokens.txt")
    assert heavy == ""


@pytest.mark.parametrize("args", [["transcribe", "--format", "json"], ["stream"]])
def test_recognising_is_light(tmp_path: Path, args: list[str]) -> None:
    # An untrained model, made here, where torch may be loaded.
    from asrkit.config.experiment_config import ExperimentConfig
    from asrkit.experiment import make_model, save_experiment
    from asrkit.features.config import FeatureConfig
    from asrkit.inference.export import export_experiment
    from asrkit.lang.tokens import TokenTable
    from asrkit.models.config import ModelConfig

    tokens = TokenTable(["a", "b"])
    features = FeatureConfig(cmvn="running")
    config = ExperimentConfig(features=features, model=ModelConfig(num_layers=1, hidden_size=4, bidirectional=False))
    stats = np.vstack([np.append(np.zeros(13), 9.0), np.append(np.full(13, 9.0), 0.0)])
    save_experiment(tmp_path, config, tokens, make_model(config, tokens), stats)
    export_experiment(tmp_path)
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    stdout, heavy = heavy_after(RUN_VERB, *args, "--model", tmp_path, tmp_path / "x.wav")
    assert '"confidence"' in stdout
    assert heavy == ""


@pytest.mark.parametrize("command", [[sys.executable, "-m", "asrkit"], [str(Path(sys.executable).parent / "asrkit")]])
def test_both_ways_to_call_the_command(command: list[str]) -> None:
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("asrkit ")
