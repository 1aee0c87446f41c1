"""Exported models in chunks, in threads and in other processes, and files that are no such models."""

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.config import DecodingConfig
from asrkit.errors import ConfigError, DataError, ModelError
from asrkit.experiment import Experiment, make_model
from asrkit.features.cmvn import NORMALIZATIONS, accumulate
from asrkit.features.config import FeatureConfig
from asrkit.inference.export import export_model
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.io.seal import seal, unsealed
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig

TOKENS = TokenTable(["a", "ʃ", "#"])
CELLS = {
    "lstm": {"cell": "lstm"},
    "projected": {"cell": "lstm", "projection_size": 6},
    "peephole_lstm": {"cell": "peephole_lstm"},
    "gru": {"cell": "gru"},
    "elman": {"cell": "elman"},
    "jordan": {"cell": "jordan"},
}


def static_features(num_frames: int, seed: int = 0) -> np.ndarray:
    """(T, 13): slow and fast changes around a mean."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((num_frames, 13))
    return (20 + 3 * steps + np.cumsum(steps[::-1], axis=0)).astype(np.float32)


def content(features: FeatureConfig | None = None, **shape) -> bytes:
    """An exported network with random weights."""
    sizes = {"num_layers": 2, "hidden_size": 12, "conv_channels": 4, "tdnn_size": 12, "bidirectional": False}
    config = ExperimentConfig(
        features=features or FeatureConfig(cmvn="global"), model=ModelConfig(**{**sizes, **shape})
    )
    stats = accumulate(static_features(500, seed=9))
    return export_model(Experiment(config, TOKENS, make_model(config, TOKENS).eval(), stats, None))


def chunks(static: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """`static` cut at random places, also into chunks without a frame."""
    return np.split(static, np.sort(rng.integers(0, len(static) + 1, rng.integers(0, 20))))


def assert_streams_as_the_whole(model: OnnxModel, stats: np.ndarray | None = None) -> None:
    rng = np.random.default_rng(0)
    for num_frames in (1, 2, 5, 30, 101):
        static = static_features(num_frames)
        whole = model.log_probs(static, stats)
        for _ in range(3):
            stream = OutputStream(model, stats)
            found = [stream.accept(chunk).log_probs for chunk in chunks(static, rng)]
            found.append(stream.finish().log_probs)
            np.testing.assert_allclose(np.concatenate(found), whole, rtol=0, atol=5e-6)


@pytest.mark.parametrize("frontend", ["none", "conv2d", "tdnn"])
@pytest.mark.parametrize("cell", CELLS)
def test_chunks_give_what_the_whole_gives(cell: str, frontend: str) -> None:
    assert_streams_as_the_whole(OnnxModel(content(frontend=frontend, **CELLS[cell])))


@pytest.mark.parametrize(("stack", "skip"), [(1, 1), (3, 3), (4, 3), (5, 2), (7, 1)])
def test_chunks_of_stacked_frames(stack: int, skip: int) -> None:
    assert_streams_as_the_whole(OnnxModel(content(stack=stack, skip=skip, frontend="tdnn")))


@pytest.mark.parametrize("cmvn", NORMALIZATIONS)
def test_chunks_under_every_normalisation(cmvn: str) -> None:
    model = OnnxModel(content(FeatureConfig(cmvn=cmvn, delta_order=1, delta_window=3)))
    is_own = NORMALIZATIONS[cmvn].needs_whole_utterance
    stats = accumulate(static_features(300, seed=1)) if is_own else None
    assert_streams_as_the_whole(model, stats)


def test_statistics_change_the_result() -> None:
    model, static = OnnxModel(content()), static_features(50)
    assert np.abs(model.log_probs(static) - model.log_probs(static, accumulate(static))).max() > 1e-2
    np.testing.assert_array_equal(model.log_probs(static), model.log_probs(static, model.global_cmvn))
    with pytest.raises(DataError, match=r"shape \(2, 13\)"):
        model.log_probs(static, np.ones((2, 13)))


def test_phases_of_a_stream_are_those_of_the_frames() -> None:
    model, static = OnnxModel(content(head="both", stack=5, skip=3)), static_features(100)
    by_frame = model.outputs_by_frame(static)
    for phase in range(3):
        stream = OutputStream(model, phase=phase)
        parts = [*map(stream.accept, np.split(static, [10, 11, 64])), stream.finish()]
        for head in ("log_probs", "frame_log_probs"):
            frames, steps = getattr(by_frame, head), np.concatenate([getattr(part, head) for part in parts])
            assert len(steps) == 34
            # Step k has its middle in frame 2 + 3 k - phase.
            middles = 2 + 3 * np.arange(34) - phase
            within = (middles >= 0) & (middles < 100)
            np.testing.assert_allclose(steps[within], frames[middles[within]], rtol=0, atol=5e-6)


def test_a_stream_keeps_few_frames() -> None:
    model = OnnxModel(content(frontend="tdnn"))
    stream = OutputStream(model)
    for chunk in np.split(static_features(3000), 300):
        stream.accept(chunk)
        assert len(stream._static) <= 2 * model.reach + 2 * model.stack


def test_what_cannot_be_streamed_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs the whole utterance; expected a unidirectional one for a stream"):
        OutputStream(OnnxModel(content(bidirectional=True)))
    for cmvn in ("speaker", "utterance", "speech_speaker"):
        with pytest.raises(ConfigError, match=f"features.cmvn: '{cmvn}' in a stream, whose end is not known"):
            OutputStream(OnnxModel(content(FeatureConfig(cmvn=cmvn))))


def test_threads_and_processes_can_share_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content(bidirectional=True))
    model = OnnxModel(path)
    statics = [static_features(num_frames, seed=num_frames) for num_frames in range(1, 60)]
    expected = [model.log_probs(static) for static in statics]
    with ThreadPoolExecutor(8) as executor:
        for _ in range(3):
            for ours, theirs in zip(executor.map(model.log_probs, statics), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    sent = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(sent.log_probs(statics[9]), expected[9])


@pytest.mark.parametrize("shape", [(0, 13), (10, 12), (13,), (1, 10, 13)])
def test_features_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"the model expects \(frames, 13\), one frame or more"):
        OnnxModel(content()).log_probs(np.zeros(shape, np.float32))


def changed(**parts) -> bytes:
    """A model with other metadata; a part that is None is left out."""
    model = onnx.load_from_string(unsealed(content()))
    properties = {item.key: item.value for item in model.metadata_props}
    meta = {**json.loads(properties.pop("asrkit")), **parts}
    del model.metadata_props[:]
    helper.set_model_props(model, properties if parts.get("format", 1) is None else {"asrkit": json.dumps(meta)})
    return seal(model.SerializeToString())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"", "no digest at its end: cut short, or not made by this version of asrkit"),
        (lambda: b"these are words", "no digest at its end: .*; copy it again, or export it again"),
        (lambda: content()[:1000], "no digest at its end"),
        (lambda: content().replace(b"LSTM", b"LSTN"), "damaged: its content does not agree with the digest"),
        (lambda: seal(b"these are words"), "not an ONNX file"),
        (lambda: changed(format=None), "no asrkit metadata; expected a file made by asrkit export"),
        (lambda: changed(format=9), "expected format 2, found 9; export it again"),
        (lambda: changed(model={"cell": "lstm", "colour": "red"}), "model: unknown setting 'colour'; export it again"),
        (
            lambda: changed(decoding={**asdict(DecodingConfig()), "beam": 0}),
            "decoding.beam must be at least 1, found 0; export",
        ),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, make, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(make())
    with pytest.raises(ModelError, match=message) as error:
        OnnxModel(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_onnxruntime_tells_nobody(tmp_path: Path) -> None:
    """It would begin with a file that identifies the machine's user; a connection would follow after seconds."""
    (tmp_path / "model.onnx").write_bytes(content())
    code = """
import os, pathlib, sys
from asrkit.inference.onnx_model import OnnxModel
OnnxModel(pathlib.Path("model.onnx"))
assert "onnxruntime" in sys.modules
print(os.listdir(), os.environ["ORT_DISABLE_TELEMETRY"])
"""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("['model.onnx'] 1\n", "")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file; made by asrkit export"):
        OnnxModel(tmp_path / "model.onnx")
