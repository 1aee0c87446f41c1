"""What a Recognizer takes, from where it is loaded, and by how many threads it can be used."""

import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

import asrkit
from asrkit.audio import read_audio
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.config import DecodingConfig
from asrkit.errors import AudioError, ConfigError, ModelError
from asrkit.experiment import load_experiment, make_model, save_experiment, update_decoding
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference import recognizer as recognizer_module
from asrkit.inference import torch_model
from asrkit.inference.export import export_experiment
from asrkit.inference.find_model import find_model, find_pretrained, model_names
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer, load_recognizer
from asrkit.inference.torch_model import TorchModel
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.types import Waveform

TOKENS = TokenTable(["a", "ʃ", "#", "sil"])
NOTICE = "exporting the model, which takes some seconds and is done once"


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """(num_samples,) float64 within -1 and 1: tones that change every 80 ms, in noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(16000 * seconds)) / 16000
    tones = rng.uniform(200, 3000, int(seconds * 12.5) + 1)[(time * 12.5).astype(int)]
    return 0.3 * np.sin(2 * np.pi * np.cumsum(tones) / 16000) + rng.normal(0, 0.01, len(time))


def train(directory: Path, seed: int = 1, **model) -> Path:
    """An experiment with random weights, large enough that phones come out."""
    config = ExperimentConfig(
        model=ModelConfig(**{"num_layers": 1, "hidden_size": 16, **model}),
        decoding=DecodingConfig(beam=4, lm_weight=0.0),
    )
    network = make_model(config, TOKENS)
    torch.manual_seed(seed)
    with torch.no_grad():
        for head in filter(None, (network.output, network.frame_output)):
            head.weight.normal_(0, 2)
    static = FeatureExtractor(FeatureConfig())(Waveform((32768 * sound(5)).astype(np.float32), 16000))
    directory.mkdir(parents=True, exist_ok=True)
    save_experiment(directory, config, TOKENS, network, accumulate(static))
    return directory


@pytest.fixture(scope="module")
def exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = train(tmp_path_factory.mktemp("trained") / "exp")
    export_experiment(directory)
    return directory


@pytest.fixture(scope="module")
def recognizer(exp: Path) -> Recognizer:
    return asrkit.load_recognizer(exp)


def test_files_arrays_and_waveforms_of_one_sound_give_the_same(recognizer: Recognizer, tmp_path: Path) -> None:
    samples = np.rint(32767 * sound(1.5)).astype(np.int16)
    file = tmp_path / "x.wav"
    soundfile.write(file, samples, 16000)
    expected = recognizer.transcribe(file)
    assert expected.utt_id == str(file)
    assert len(set(expected.phones)) > 2
    assert len(expected.times) == len(expected.confidences) == len(expected.phones)
    silence = np.zeros_like(samples)
    for audio, options in [
        (str(file), {}),
        (read_audio(file), {}),
        (samples, {"sample_rate": 16000}),
        (samples.astype(np.int32) * 65536, {"sample_rate": 16000}),
        (samples.astype(np.float32) / 32768, {"sample_rate": 16000}),
        (samples.astype(np.float64) / 32768, {"sample_rate": 16000}),
        (samples[:, None], {"sample_rate": 16000}),
        (np.stack([silence, samples], axis=1), {"sample_rate": 16000, "channel": 1}),
        (np.stack([samples, samples], axis=1), {"sample_rate": 16000, "channel": "mix"}),
    ]:
        found = recognizer.transcribe(audio, "x", **options)
        assert (found.utt_id, found.phones, found.times) == ("x", expected.phones, expected.times)
    assert recognizer.transcribe(samples, sample_rate=16000).utt_id == "audio"
    assert recognizer.transcribe(file, with_times=False).times == ()
    aligned = recognizer.align(samples, expected.phones, sample_rate=16000)
    assert aligned.phones == expected.phones


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (np.zeros(16000), {}, "an array without sample_rate; expected its sampling rate in Hz"),
        (np.zeros(16000), {"sample_rate": 0}, "a sampling rate of 0 Hz; expected 1000 to 1000000 Hz"),
        (np.zeros((16000, 2)), {"sample_rate": 16000}, "2 channels; expected 1"),
        (np.zeros((16000, 2)), {"sample_rate": 16000, "channel": 2}, "no channel 2"),
        (np.zeros(16000, np.uint8), {"sample_rate": 16000}, r"shape \(16000,\) and type uint8; expected"),
        (np.zeros((2, 3, 4)), {"sample_rate": 16000}, r"shape \(2, 3, 4\)"),
        (np.zeros(0), {"sample_rate": 16000}, r"shape \(0,\)"),
        (np.zeros(100), {"sample_rate": 16000}, "100 samples .* expected one frame or more"),
        (np.full(16000, np.nan), {"sample_rate": 16000}, "NaN or infinite"),
        ("absent.wav", {}, "absent.wav: no such audio file"),
    ],
)
def test_audio_that_cannot_be_used(recognizer: Recognizer, audio, options: dict, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        recognizer.transcribe(audio, **options)


def test_a_step_for_each_frame_gives_the_times_that_frames_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stack 11 and skip 1 there are as many steps as frames, and step k has its middle in frame k + 5."""
    recognizer = load_recognizer(train(tmp_path / "exp", stack=11, skip=1, bidirectional=False))
    samples = sound(3.0)
    by_step = recognizer.transcribe(samples, sample_rate=16000)
    assert len(by_step.phones) > 15
    by_frame = recognizer.align(samples, by_step.phones, sample_rate=16000)
    monkeypatch.setattr(recognizer_module, "_MAX_FINE_CELLS", 1)
    coarse = recognizer.align(samples, by_step.phones, sample_rate=16000)
    for other in (by_step, coarse):
        differences = [abs(time.end - ref.end) for time, ref in zip(other.times, by_frame.times, strict=True)]
        assert np.mean(np.array(differences) < 1e-9) > 0.8


def test_alignment_looks_at_every_frame_while_there_is_room(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = sound(1.0)  # 98 frames
    phones = recognizer.transcribe(samples, sample_rate=16000).phones
    assert phones
    called = []

    def note(name: str, compute: Callable) -> Callable:
        return lambda *args: called.append(name) or compute(*args)

    for name in ("outputs_by_frame", "log_probs"):
        monkeypatch.setattr(recognizer.model, name, note(name, getattr(recognizer.model, name)))
    for room in (98 * len(phones), 98 * len(phones) - 1):
        monkeypatch.setattr(recognizer_module, "_MAX_FINE_CELLS", room)
        recognizer.align(samples, phones, sample_rate=16000)
    assert called == ["outputs_by_frame", "log_probs"]


def test_arrays_of_every_type_are_as_loud() -> None:
    """A CMVN by utterance would hide it."""
    samples = np.array([0, 1, -3, 12345, -32768, 32767], np.int16)
    for array in (samples, samples.astype(np.int32) << 16, samples / 2.0**15, samples.astype(np.float32) / 2**15):
        waveform = recognizer_module.to_waveform(array, 8000)
        assert (waveform.samples.dtype, waveform.sample_rate) == (np.float32, 8000)
        assert waveform.samples.tolist() == samples.tolist()
        stereo = recognizer_module.to_waveform(np.stack([array, 0 * array], axis=1), 8000, channel="mix")
        assert stereo.samples.tolist() == (samples / 2).tolist()


@pytest.mark.parametrize("make_export", [export_experiment, load_recognizer])
def test_an_export_that_differs_from_pytorch_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_export
) -> None:
    directory = train(tmp_path / "exp")
    monkeypatch.setattr("asrkit.inference.export.max_difference", lambda *_: 1e-4)
    with pytest.raises(ModelError, match=r"exp: the export's log-probabilities differ by 1\.0e-04, on made-up"):
        make_export(directory)
    assert not (directory / "final.onnx").exists()
    monkeypatch.setattr("asrkit.inference.export.max_difference", lambda *_: 9.9e-5)
    make_export(directory)
    assert (directory / "final.onnx").exists()


@pytest.mark.parametrize("head", ["ctc", "both"])
def test_threads_share_a_recognizer(tmp_path: Path, head: str) -> None:
    directory = train(tmp_path / "exp", head=head)
    export_experiment(directory)
    recognizer = load_recognizer(directory)
    sounds = [sound(0.2 + 0.1 * seed, seed) for seed in range(24)]
    expected = [load_recognizer(directory).transcribe(samples, sample_rate=16000) for samples in sounds]
    assert len({found.phones for found in expected}) > 20
    with ThreadPoolExecutor(8) as executor:
        for _ in range(3):
            found = executor.map(lambda samples: recognizer.transcribe(samples, sample_rate=16000), sounds)
            assert list(found) == expected


@pytest.mark.parametrize(("head", "bidirectional"), [("ctc", True), ("both", True), ("frames", False)])
def test_what_is_short_is_recognized_at_once_as_in_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, bidirectional: bool
) -> None:
    directory = train(tmp_path / "exp", head=head, bidirectional=bidirectional)
    export_experiment(directory)
    recognizer, made = load_recognizer(directory), []
    static_features = recognizer_module.StaticFeatures
    monkeypatch.setattr(recognizer_module, "StaticFeatures", lambda *args: made.append(args) or static_features(*args))
    sounds = [sound(seconds, 7) for seconds in (0.5, 4.0)]
    for options in ({}, {"with_times": False}, {"num_best": 3}):
        at_once = [recognizer.transcribe(samples, sample_rate=16000, **options) for samples in sounds]
        assert made == []
        with monkeypatch.context() as patch:
            patch.setattr(recognizer_module, "SHORT", 0.2)
            assert [recognizer.transcribe(samples, sample_rate=16000, **options) for samples in sounds] == at_once
        assert len(made) == len(sounds)
        made.clear()
    assert len(at_once[1].phones) > 5
    recognizer.transcribe(sound(recognizer_module.SHORT + 0.1), sample_rate=16000)
    assert len(made) == 1


def test_settings_of_the_search_can_be_others(exp: Path) -> None:
    assert load_recognizer(exp).decoding == DecodingConfig(beam=4, lm_weight=0.0)
    greedy = DecodingConfig(method="greedy")
    assert load_recognizer(exp, greedy).decoding == Recognizer.load(exp, greedy).decoding == greedy


def test_an_export_is_made_when_it_is_missing_stale_or_damaged(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    directory = train(tmp_path / "exp")
    exported = directory / "final.onnx"

    def notices() -> int:
        err = capsys.readouterr().err
        assert err.count("\n") == err.count(NOTICE)
        return err.count(NOTICE)

    first = load_recognizer(directory)
    assert notices() == 1
    assert exported.is_file()
    load_recognizer(directory)
    assert notices() == 0
    update_decoding(directory, DecodingConfig(beam=9))
    assert load_recognizer(directory).decoding.beam == 9
    assert notices() == 1
    train(directory, seed=2)
    samples = sound(2)
    second = load_recognizer(directory)
    assert notices() == 1
    assert first.transcribe(samples, sample_rate=16000).phones != second.transcribe(samples, sample_rate=16000).phones
    exported.write_bytes(exported.read_bytes()[:1000])
    load_recognizer(directory)
    assert notices() == 1
    assert OnnxModel(exported).tokens == TOKENS
    (directory / "final.pt").unlink()  # the export alone is enough
    load_recognizer(directory)
    assert notices() == 0


def test_an_experiment_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    directory = train(tmp_path / "exp")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("asrkit.inference.export.atomic_write", refuse)
    found = load_recognizer(directory)
    assert found.transcribe(sound(1), sample_rate=16000).phones
    assert not (directory / "final.onnx").exists()
    assert NOTICE in capsys.readouterr().err


def test_a_gpu_is_asked_for_in_vain(exp: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match=r"device cuda: PyTorch .* finds no GPU; .*, or give cpu"):
        load_recognizer(exp, device="cuda")
    with pytest.raises(
        ConfigError, match=r"device cuda:1: onnxruntime .* has no CUDAExecutionProvider, .*, or give cpu"
    ):
        load_recognizer(exp / "final.onnx", device="cuda:1")


def test_onnxruntime_runs_a_file_on_the_gpu_that_is_named(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked, provider = onnxruntime.InferenceSession, [], "CUDAExecutionProvider"

    def open_session(content: bytes, options: object, providers: list) -> onnxruntime.InferenceSession:
        asked.append(providers)
        return real(content, options, providers=providers[1:])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [provider, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    with pytest.raises(ConfigError, match=r"device cuda:1: onnxruntime .* cannot use it; see that .*, or give cpu"):
        load_recognizer(exp / "final.onnx", device="cuda:1")
    monkeypatch.setattr(real, "get_providers", lambda session: [provider])
    found = load_recognizer(exp / "final.onnx", device="cuda:1")
    pickle.loads(pickle.dumps(found.model))
    assert asked == [[(provider, {"device_id": "1", "use_tf32": "0"}), "CPUExecutionProvider"]] * 3
    assert found.transcribe(sound(1), sample_rate=16000) == load_recognizer(exp).transcribe(sound(1), sample_rate=16000)


def test_a_network_on_a_gpu_is_a_copy(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's meta device, which has no numbers, stands for the GPU."""
    monkeypatch.setattr(torch_model, "choose_device", torch.device)
    experiment = load_experiment(exp)
    model = TorchModel(experiment, "meta")
    again = pickle.loads(pickle.dumps(model))  # another process opens its own device
    for each in (model, again):
        assert {weight.device.type for weight in each.network.parameters()} == {"meta"}
    assert {weight.device.type for weight in experiment.model.parameters()} == {"cpu"}
    assert TorchModel(experiment).network is experiment.model


def test_of_pytorchs_reasons_the_first_line_is_said(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA to enable assertions")

    monkeypatch.setattr(torch_model, "choose_device", torch.device)
    monkeypatch.setattr(torch.nn.Module, "to", fail)
    with pytest.raises(ModelError, match=r"device cuda: PyTorch cannot use it \(CUDA error: out of memory\); give cpu"):
        load_recognizer(exp, device="cuda")


def test_the_package_offers_what_recognises() -> None:
    assert asrkit.load_recognizer is load_recognizer
    assert asrkit.Recognizer is Recognizer
    with pytest.raises(AttributeError, match="no attribute 'load_recogniser'"):
        _ = asrkit.load_recogniser


def finished(directory: Path, when: int, name: str = "final.pt") -> Path:
    """A directory that looks like a finished experiment of time `when`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).touch()
    os.utime(directory / name, (when, when))
    return directory


def test_a_model_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = finished(tmp_path / "exp", 1)
    (exp / "small.onnx").touch()
    assert find_model(exp) == find_model(str(exp)) == find_model(exp / "final.pt") == exp
    assert find_model(exp / "small.onnx") == exp / "small.onnx"
    assert find_model(finished(tmp_path / "sent", 1, "final.onnx")) == tmp_path / "sent"
    monkeypatch.chdir(tmp_path)
    assert find_model("exp") == Path("exp")
    with pytest.raises(ModelError, match=r"no such model or experiment directory; made by stage 3"):
        find_model(tmp_path / "absent")
    with pytest.raises(ModelError, match=r"absent: no such model or experiment directory"):
        find_model("./absent")  # a path, not a recipe's name
    (tmp_path / "begun").mkdir()
    with pytest.raises(ModelError, match=r"begun/final.pt: not found; training has not finished, run stage 3"):
        find_model(tmp_path / "begun")


def test_a_model_is_found_by_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """$ASRKIT_MODELS, then the current directory and those above it, then the installed checkout."""
    package = tmp_path / "installed/asrkit/inference"
    package.mkdir(parents=True)
    monkeypatch.setattr("asrkit.inference.find_model.__file__", str(package / "find_model.py"))
    monkeypatch.delenv("ASRKIT_MODELS", raising=False)
    work = tmp_path / "checkout/deep/er"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)

    with pytest.raises(ModelError) as error:
        find_model("mini")
    lines = str(error.value).split("\n")
    remedy = "train one (recipes/mini/run.sh), give the path of one, or see asrkit models"
    assert lines[0] == f"mini: no such model; {remedy}"
    assert lines[1] == "mini: looked for in mini"
    assert f"mini: looked for in {work}/recipes/mini/exp" in lines
    assert lines[-1] == f"mini: looked for in {tmp_path}/installed/asrkit/pretrained/mini.onnx"
    assert lines[-2] == f"mini: looked for in {tmp_path}/installed/recipes/mini/exp"
    assert lines.index(f"mini: looked for in {tmp_path}/checkout/recipes/mini/exp") < len(lines) - 2
    assert model_names() == []

    ours = tmp_path / "installed/asrkit/pretrained/mini.onnx"
    ours.parent.mkdir()
    ours.touch()
    assert find_model("mini") == find_pretrained("mini") == ours
    assert model_names() == ["mini"]

    installed = finished(tmp_path / "installed/recipes/mini/exp/blstm", 50)
    assert find_model("mini") == installed
    old = finished(tmp_path / "checkout/recipes/mini/exp/old", 10)
    assert find_model("mini") == old
    (tmp_path / "checkout/recipes/mini/exp/unfinished").mkdir()
    new = finished(tmp_path / "checkout/recipes/mini/exp/a_new_one", 20)
    assert find_model("mini") == new
    monkeypatch.chdir(tmp_path / "checkout/recipes")  # where mini is a directory, but no experiment
    assert find_model("mini") == new
    models = tmp_path / "models"
    monkeypatch.setenv("ASRKIT_MODELS", str(models))
    assert find_model("mini") == new
    assert find_model(finished(models / "mini", 1, "final.onnx").name) == models / "mini"
    (models / "mini.onnx").touch()
    assert find_model("mini") == models / "mini.onnx"
    (models / "other.onnx").touch()
    (models / "no model").mkdir()
    assert model_names() == ["mini", "other"]
    assert find_pretrained("mini") == ours  # what comes with asrkit, whatever else has its name
    with pytest.raises(
        ModelError, match=r"pretrained/other.onnx: not found; this installation of asrkit comes without"
    ):
        find_pretrained("other")
    shutil.rmtree(models)
    assert find_model("mini") == new
