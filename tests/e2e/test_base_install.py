"""What works in an installation without the extra `train`: the wheel as it is built, beside what it asks for alone."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.experiment import make_model, save_experiment
from asrkit.extras import EXTRAS, TRAINING
from asrkit.features.config import FeatureConfig
from asrkit.inference.export import export_experiment
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig

ROOT = Path(__file__).parents[2]
RATE = 16000
CONFIG = """\
features: {cmvn: running}
model: {bidirectional: false, num_layers: 1, hidden_size: 8, self_conditioning: false}
training: {num_epochs: 2, batch_size: 4, augment: {speeds: [], vtlp: 0, time_masks: 0}}
"""

# Takes the modules that there are, and verbs' arguments; nothing else can be imported, and no network reached.
RUN_VERBS = """
import contextlib, io, json, socket, sys

available = {*json.loads(sys.argv[1]), *sys.stdlib_module_names, "asrkit"}

class Installation:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        module = name.partition(".")[0]
        is_there = module in available or module.startswith("_sysconfigdata")
        return self.finder.find_spec(name, path, target) if is_there else None

def refuse(*args):
    raise AssertionError("the network is used")

sys.meta_path[:] = map(Installation, sys.meta_path)
socket.socket.connect = refuse
import asrkit
from asrkit.cli.main import main

results = []
for argv in json.loads(sys.argv[2]):
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(argv)
        except SystemExit as end:
            status = end.code
    results.append([status, *(stream.buffer.getvalue().decode() for stream in (out, err))])
print(json.dumps([asrkit.__file__, results]))
"""


def build_wheel(directory: Path, compiler: str | None) -> Path:
    """A wheel, made in `directory` of the sources; without kernels where there is no compiler."""
    source = directory / "source"
    shutil.copytree(ROOT / "asrkit", source / "asrkit", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-c", "from setuptools import build_meta; print(build_meta.build_wheel('..'))"]
    environment = os.environ if compiler is None else {**os.environ, "CC": compiler}
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def modules_of(names: set[str]) -> list[str]:
    """The top-level modules of these distributions and of all that they need."""
    found, waiting = set(), {canonicalize_name(name) for name in names}
    while waiting:
        found.add(name := waiting.pop())
        needed = map(Requirement, importlib.metadata.requires(name) or [])
        now = {each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})}
        waiting |= {canonicalize_name(each) for each in now} - found
    modules = importlib.metadata.packages_distributions()
    return sorted(each for each, owners in modules.items() if found & {canonicalize_name(owner) for owner in owners})


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"), compiler="/bin/false")


def unpack(wheel: Path, directory: Path) -> tuple[Path, set[str]]:
    """Where the wheel's package lies then, and the distributions that it asks for without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    asked = importlib.metadata.PathDistribution(directory / Path(metadata).parent).requires or []
    return directory, {each.name for each in map(Requirement, asked) if each.marker is None}


def run_verbs(site: Path, modules: list[str], *verbs: tuple[object, ...]) -> list[tuple[int, str, str]]:
    """Run them one after the other in one process; of each its status and what it printed."""
    lines = json.dumps([[str(arg) for arg in verb] for verb in verbs])
    command = [sys.executable, "-c", RUN_VERBS, json.dumps(modules), lines]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    where, results = json.loads(done.stdout)
    assert Path(where).parent == site / "asrkit"
    return [tuple(each) for each in results]


def make_corpus(root: Path) -> Path:
    """Recordings of noise with phones, of six speakers, and a table; then the first one."""
    random = np.random.default_rng(1)
    rows = ["audio,phones,speaker,set"]
    sets = ["train"] * 8 + ["dev"] * 2 + ["test"] * 2
    root.mkdir()
    for number, set_name in enumerate(sets):
        soundfile.write(root / f"u{number}.wav", random.normal(0, 0.1, RATE), RATE)
        rows.append(f"u{number}.wav,a b a,s{number // 2},{set_name}")
    (root / "corpus.csv").write_text("\n".join(rows) + "\n")
    return root / "u0.wav"


def prepare_verbs(root: Path) -> list[tuple[object, ...]]:
    """Stages 0 to 2, of `root`/corpus."""
    data = root / "data"
    sets = [data / name for name in ("train", "dev", "test")]
    (root / "config.yaml").write_text(CONFIG)
    return [
        ("prepare", "own", "--corpus", root / "corpus", "--out", data, "--nj", 1),
        ("validate", data / "train"),
        ("extract", *sets, "--config", root / "config.yaml", "--nj", 1),
        (
            "train-lm",
            "--train",
            data / "train",
            "--tokens",
            data / "tokens.txt",
            "--order",
            2,
            "--out-file",
            data / "lm.arpa",
        ),
    ]


def training_verbs(root: Path) -> list[tuple[object, ...]]:
    """What needs the extra `train`: stages 3 to 5 on what prepare_verbs make, an adaptation and an export."""
    data, exp, decoded = root / "data", root / "exp", root / "exp/decode_dev"
    train = ("train", "--config", root / "config.yaml", "--train", data / "train", "--dev", data / "dev")
    return [
        (*train, "--tokens", data / "tokens.txt", "--lm", data / "lm.arpa", "--out", exp),
        ("decode", "--model", exp, "--data", data / "dev", "--out", decoded, "--nj", 1),
        ("tune", "--model", exp, "--data", data / "dev", "--decode-dir", decoded, "--nj", 1),
        ("decode", "--model", exp, "--data", data / "dev", "--out", decoded, "--nj", 1),
        ("analyze", "--model", exp, "--data", data / "dev", "--decode-dir", decoded, "--nj", 1),
        ("adapt", "--model", exp, "--data", data / "train", "--out", root / "adapted"),
        ("export", "--model", exp, "--out-file", root / "exported.onnx"),
    ]


def make_experiment(directory: Path) -> Path:
    """An untrained model; returns its export."""
    tokens = TokenTable(["a", "b"])
    features = FeatureConfig(cmvn="running")
    config = ExperimentConfig(features=features, model=ModelConfig(num_layers=1, hidden_size=4, bidirectional=False))
    stats = np.vstack([np.append(np.zeros(13), 9.0), np.append(np.full(13, 9.0), 0.0)])
    directory.mkdir()
    save_experiment(directory, config, tokens, make_model(config, tokens), stats)
    export_experiment(directory)
    return directory / "final.onnx"


def test_the_base_installation(wheel: Path, tmp_path: Path) -> None:
    """It recognises, aligns, scores and streams, and makes data and features; what it lacks is named."""
    site, asked = unpack(wheel, tmp_path / "site")
    page = "asrkit/serve/page"
    assert {*os.listdir(site / page)} == {*os.listdir(ROOT / page)}
    model, audio = make_experiment(tmp_path / "untrained"), make_corpus(tmp_path / "corpus")
    unexported = tmp_path / "unexported"
    shutil.copytree(model.parent, unexported)
    (unexported / model.name).unlink()
    data, out = tmp_path / "data", tmp_path / "out"
    (tmp_path / "text").write_text("u0 a b a\n")
    (tmp_path / "hyp").write_text("".join(f"s5-u{number} a b\n" for number in (10, 11)))
    text, hyp = data / "test/text", tmp_path / "hyp"
    (tmp_path / "u.ctm").write_text("u0 1 0.1 0.2 a\n")
    working = [
        ("--help",),
        *prepare_verbs(tmp_path),
        ("transcribe", "--model", model, "--format", "json", "--nj", 1, audio),
        ("transcribe", "--model", model.parent, "--nj", 1, audio),
        ("align", "--model", model, "--text", tmp_path / "text", audio),
        ("stream", "--model", model, audio),
        ("score", text, hyp),
        ("compare", text, hyp, hyp),
        ("report", "--data", data / "test", "--hyp", hyp, "--out", out),
        ("boundaries", "--ref", tmp_path / "u.ctm", "--hyp", tmp_path / "u.ctm"),
        ("table", "--help"),
    ]
    backends = [("extract", data / "dev", "--backend", name, "--force") for name in ("torchaudio", "librosa")]
    training = training_verbs(tmp_path)
    unable = [("transcribe", "--model", unexported, audio), *backends, ("stream", "--model", model, "--microphone")]
    unable.append(("plot", "attention", "--model", model, "--out", out / "pictures", audio))
    serving = ("serve", "--model", model)
    results = run_verbs(site, modules_of(asked), *working, *training, *unable, serving)
    assert [stderr for status, _, stderr in results[: len(working)] if status != 0] == []
    assert [status for status, _, _ in results[len(working) :]] == [1] * len([*training, *unable, serving])
    printed = {str(verb[0]): stdout for verb, (_, stdout, _) in zip(working, results, strict=False)}
    assert "kernels, provide a C compiler" in "".join(stderr for _, _, stderr in results)
    assert '"confidence"' in printed["stream"]
    assert printed["align"].split()[1:] == ["a", "b", "a"]
    assert printed["score"].splitlines()[-1] == "%PER 33.33 [ 2 / 6, 0 ins, 2 del, 0 sub ]"
    assert printed["report"].splitlines()[-1] == "%PER 33.33 [ 2 / 6, 0 ins, 2 del, 0 sub ]"

    said = [stderr.splitlines()[-1] for _, _, stderr in results[len(working) :]]
    install = f"install with: {sys.executable} -m pip install"
    together = f"{', '.join(TRAINING)}, which are not installed; {install} 'asrkit-phones[train]'"
    expected = [f"asrkit {verb[0]}: error: needs {together}" for verb in training]
    expected += [
        f"asrkit {verb[0]}: error: needs {package}, which is not installed; {install} 'asrkit-phones[{extra}]'"
        for verb, package, extra in zip(
            unable,
            ("onnx", "torch", "librosa", "sounddevice", "matplotlib"),
            ("train", "train", "train", "microphone", "train"),
            strict=True,
        )
    ]
    web = f"{', '.join(EXTRAS['web'])}, which are not installed; {install} 'asrkit-phones[web]'"
    assert said == [*expected, f"asrkit serve: error: needs {web}"]


def test_it_recognises_out_of_the_box(wheel: Path, tmp_path: Path) -> None:
    """With the models that the wheel has, from a directory that has none, and without a network."""
    site, asked = unpack(wheel, tmp_path / "site")
    audio = make_corpus(tmp_path / "corpus")
    verbs = [
        ("transcribe", "--json", audio),
        ("transcribe", "--model", "english", "--json", audio),
        ("align", "--ipa", "--phones", "HH AH L OW", audio),
        ("stream", audio),
        ("models", "--json"),
    ]
    results = run_verbs(site, modules_of(asked), *verbs)
    assert [stderr for status, _, stderr in results if status != 0] == []
    default, named, aligned, streamed, listed = (stdout for _, stdout, _ in results)
    assert json.loads(default)["file"] == str(audio)
    assert named == default
    assert aligned.split()[1:] == ["h", "ʌ", "l", "oʊ"]
    assert [json.loads(line).keys() & {"final", "partial"} for line in streamed.splitlines()].count(set()) == 0
    models = {each["name"]: each for each in map(json.loads, listed.splitlines())}
    assert models.keys() == {"english", "english-streaming"}
    for name, model in models.items():
        assert Path(model["file"]) == site / f"asrkit/pretrained/{name}.onnx"
        assert (model["language"], len(model["phones"]), model["synthetic"]) == ("English", 39, False)
        assert (model["license"], model["trained_on"]) == ("CC BY 4.0", "speechocean762")
        assert model["test_set"] == "speechocean762 test" and model["test_utterances"] >= 500
        assert 0 < model["per"] < 100
        assert model["size"] <= 2.5e6
    assert models["english-streaming"]["streaming"]
    assert wheel.stat().st_size < 10e6


@pytest.mark.slow
def test_training_needs_what_is_looked_for_before_it_begins(wheel: Path, tmp_path: Path) -> None:
    """And no other package of the extra."""
    site, asked = unpack(wheel, tmp_path / "site")
    make_corpus(tmp_path / "corpus")
    verbs = [*prepare_verbs(tmp_path), *training_verbs(tmp_path)]
    results = run_verbs(site, modules_of(asked | set(TRAINING)), *verbs)
    assert [stderr for status, _, stderr in results if status != 0] == []


@pytest.mark.slow
def test_the_wheel_has_the_kernels_where_they_can_be_built(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path, compiler=None)
    with zipfile.ZipFile(wheel) as archive:
        kernels = {Path(name).name.split(".")[0] for name in archive.namelist() if name.endswith(".so")}
        others = {Path(name).parts[0] for name in archive.namelist()}
    assert kernels == {path.stem for path in (ROOT / "asrkit/_native").glob("_*.c")}
    assert others == {"asrkit", wheel.name.rpartition("-cp")[0].rpartition("-cp")[0] + ".dist-info"}
    assert wheel.stat().st_size < 10e6
