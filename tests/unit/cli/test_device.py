"""The option --device: the default in other words, another way to the same figures, or one line."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asrkit.cli.main import main
from asrkit.experiment import load_experiment
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.formats.data_dir import write_data_dir
from asrkit.inference import torch_model
from asrkit.inference.export import export_experiment
from asrkit.inference.recognizer import load_recognizer
from asrkit.inference.torch_model import TorchModel
from asrkit.models.heads import HEADS
from asrkit.stages import adaptation
from asrkit.training import loop
from asrkit.types import Utterance, Waveform
from tests.command_line import leaf_parsers, options_of
from tests.unit.inference.test_recognizer import TOKENS, sound, train

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
NO_PYTORCH_GPU = (
    f"device cuda: PyTorch {torch.__version__} finds no GPU; install a build of PyTorch with CUDA and a driver "
    "(docs/gpu.md), or give cpu"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A data directory with features, an experiment with random weights, and its export."""
    root, utts = tmp_path_factory.mktemp("device"), []
    for number in range(6):
        path = str(root / f"{number}.wav")
        soundfile.write(path, sound(0.5 + 0.1 * number, number), 16000)
        utts.append(Utterance(f"spk{number % 2}-{number}", f"spk{number % 2}", path, ("a", "#", "sil")))
    utts.sort(key=lambda utt: utt.utt_id)
    write_data_dir(root / "data", utts, {utt.utt_id: soundfile.info(utt.audio).duration for utt in utts})
    extract_data_dir(root / "data", FeatureConfig(), num_jobs=1)
    TOKENS.write(root / "tokens.txt")
    (root / "book.txt").write_text("a book\nof lines\n" * 10)
    train(root / "exp", head="both")
    export_experiment(root / "exp")
    return root


TRAIN = ["--train", "data", "--dev", "data", "--tokens", "tokens.txt", "--out", "new"]
# What each verb with --device is given, and what it says of a GPU that is not there: PyTorch, or onnxruntime.
CALLS = {
    "train": (TRAIN, "PyTorch"),
    "train-nlm": (["--plain-text", "book.txt", "--out", "lm"], "PyTorch"),
    "adapt": (["--model", "exp", "--data", "data", "--out", "adapted"], "PyTorch"),
    "decode": (["--model", "exp", "--data", "data", "--out", "decoded", "--nj", "1"], "PyTorch"),
    "tune": (["--model", "exp", "--data", "data"], "PyTorch"),
    "transcribe": (["--model", "exp", "0.wav"], "PyTorch"),
    "align": (["--model", "exp", "--phones", "a", "0.wav"], "PyTorch"),
    "plot attention": (["--model", "exp", "--out", "plots", "0.wav"], "PyTorch"),
    "stream": (["0.wav"], "onnxruntime"),
    "serve": (["--port", "0"], "onnxruntime"),
}
OF_FILES = {
    "transcribe": ["--model", "exp/final.onnx", "0.wav"],
    "align": ["--model", "exp/final.onnx", "--phones", "a", "0.wav"],
    "plot attention": ["--model", "exp/final.onnx", "--out", "plots", "0.wav"],
    "stream": ["--model", "exp/final.onnx", "0.wav"],
    "serve": ["--model", "exp/final.onnx", "--port", "0"],
}


def test_every_verb_with_the_option_is_called_here():
    assert {name for name, parser in leaf_parsers() if "--device" in options_of(parser)} == {*CALLS}


@NO_GPU
@pytest.mark.parametrize(
    ("verb", "arguments", "engine"),
    [
        *((verb, *each) for verb, each in CALLS.items()),
        *((verb, each, "onnxruntime") for verb, each in OF_FILES.items()),
    ],
)
def test_a_gpu_that_is_not_there_is_one_line(tree, monkeypatch, capsys, verb, arguments, engine):
    monkeypatch.chdir(tree)
    assert main([*verb.split(), *arguments, "--device", "cuda"]) == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith(f"asrkit {verb.split()[0]}: error: device cuda: {engine} ")
    assert line.endswith(", or give cpu")
    if engine == "PyTorch":
        assert line.endswith(NO_PYTORCH_GPU)
    assert not (tree / "new/checkpoint.pt").exists() and not (tree / "decoded/log_probs.scp").exists()


@pytest.mark.parametrize("verb", ["decode", "train"])
def test_a_name_that_is_none_is_a_wrong_argument(tree, monkeypatch, capsys, verb):
    monkeypatch.chdir(tree)
    with pytest.raises(SystemExit) as end:
        main([verb, *CALLS[verb][0], "--device", "gpu"])
    assert end.value.code == 2
    assert "argument --device: expected cpu, cuda, or cuda:N for GPU number N (from 0), found 'gpu'" in (
        capsys.readouterr().err
    )


def decode(tree: Path, name: str, *options: str) -> Path:
    out = tree / name
    assert main(["decode", *CALLS["decode"][0][:4], "--nj", "1", "--out", str(out), "--ctm", *options]) == 0
    return out


@pytest.fixture
def as_a_gpu(monkeypatch):
    """Devices that models were put on, by module. PyTorch's CPU stands for each of them."""
    asked = []
    for module in (torch_model, adaptation, loop):

        def choose(name, module=module):
            asked.append((module.__name__.rpartition(".")[2], name))
            return torch.device("cpu")

        monkeypatch.setattr(module, "choose_device", choose)
    return asked


def test_decoding_on_a_device_is_that_on_the_cpu(tree, monkeypatch, capsys, as_a_gpu):
    monkeypatch.chdir(tree)
    usual, named, on_gpu = (
        decode(tree, *each) for each in (["a"], ["b", "--device", "cpu"], ["c", "--device", "cuda:1"])
    )
    assert as_a_gpu == [("torch_model", name) for name in ("cpu", "cpu", "cuda:1")]
    for name in ("hyp", "phones.ctm", "log_probs.ark"):
        assert (named / name).read_bytes() == (usual / name).read_bytes() == (on_gpu / name).read_bytes()
    capsys.readouterr()
    decode(tree, "a", "--device", "cuda:1")  # the device is no reason to decode again
    assert capsys.readouterr().err == f"{usual}: decoding is up to date\n"


def test_adaptation_on_a_device_is_that_on_the_cpu(tree, tmp_path, monkeypatch, capsys, as_a_gpu):
    monkeypatch.chdir(tree)

    def adapt(name, device):
        once = ["--set", "training.num_epochs=1", "--set", "training.augment.speeds=[]", "--device", device]
        assert main(["adapt", "--model", "exp", "--data", "data", "--out", str(tmp_path / name), *once]) == 0
        return load_experiment(tmp_path / name).model.state_dict()

    usual, on_gpu = adapt("a", "cpu"), adapt("b", "cuda")
    assert all(torch.equal(weights, usual[name]) for name, weights in on_gpu.items())
    asked = as_a_gpu[len(as_a_gpu) // 2 :]
    assert asked[:2] == [("adaptation", "cuda"), ("loop", "cuda")]
    on_cpu, on_cuda = ("torch_model", "cpu"), ("torch_model", "cuda")
    assert {*asked[2:]} == {on_cpu, on_cuda} and asked[-1] == on_cpu  # the export is compared with it
    capsys.readouterr()
    adapt("b", "cpu")  # the device is no reason to do it again
    assert f"{tmp_path / 'b'}: adaptation is up to date" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["transcribe", "align"])
def test_recognition_on_a_device_is_that_on_the_cpu(tree, monkeypatch, capsys, as_a_gpu, verb):
    """PyTorch's network and onnxruntime's give the same text."""
    monkeypatch.chdir(tree)
    said = []
    for options in ([], ["--device", "cpu"], ["--device", "cuda"]):
        assert main([verb, *CALLS[verb][0], "--format", "ctm", *options]) == 0
        said.append(capsys.readouterr().out)
    assert as_a_gpu == [("torch_model", "cuda")]
    assert said[0] == said[1]
    usual, on_gpu = ([line.split() for line in text.splitlines()] for text in (said[0], said[2]))
    assert len(usual) > 0
    for expected, found in zip(usual, on_gpu, strict=True):
        assert found[:2] + found[4:5] == expected[:2] + expected[4:5]
        places = [2, 3, *range(5, len(expected))]
        np.testing.assert_allclose([float(found[i]) for i in places], [float(expected[i]) for i in places], atol=2e-3)


@pytest.mark.parametrize("head", HEADS)
def test_outputs_by_pytorch_are_those_of_the_exported_file(tmp_path, as_a_gpu, head):
    train(tmp_path, head=head)
    usual, on_gpu = load_recognizer(tmp_path), load_recognizer(tmp_path, device="cuda")
    assert isinstance(on_gpu.model, TorchModel) and as_a_gpu[-1] == ("torch_model", "cuda")
    static = usual.extractor(Waveform((32768 * sound(1.0, 3)).astype(np.float32), 16000))
    np.testing.assert_allclose(on_gpu.model.log_probs(static), usual.model.log_probs(static), atol=1e-4)
