"""Exported models beside PyTorch: every cell, front end, head and kind of features, on audio like speech."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.language_models import lm_text
from asrkit.decoding.methods import make_search
from asrkit.experiment import Experiment, load_experiment, make_model, save_experiment
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference.export import (
    compared_export,
    export_model,
    made_up_sample,
    max_difference,
    with_8_bit_weights,
)
from asrkit.inference.export_graph import in_8_bits
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.inference.torch_model import TorchModel
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.models.config import ModelConfig
from asrkit.types import Supplement, Waveform
from tests.language_models import random_network

TOKENS = TokenTable(["a", "ʃ", "#", "sil"])
CELLS = {
    "lstm": {},
    "projected": {"cell": "lstm", "projection_size": 6},
    "peephole_lstm": {},
    "gru": {},
    "elman": {},
    "elman_relu": {"cell": "elman", "nonlinearity": "relu"},
    "jordan": {},
    "jordan_relu": {"cell": "jordan", "nonlinearity": "relu"},
}


def speech(seconds: float, seed: int = 0) -> Waveform:
    """Vowel-like sounds: harmonics of a gliding pitch under two formants that change every 100 ms, in noise."""
    return Waveform(_speech(seconds, seed).copy(), 16000)


@cache
def _speech(seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(16000 * seconds)) / 16000
    pitch = np.cumsum(120 + 30 * np.sin(2 * np.pi * 1.5 * time)) / 16000
    place = (time * 10).astype(int)
    formants = rng.uniform([300, 900], [800, 2500], (place[-1] + 1, 2))[place]
    loudness = rng.uniform(0, 1, place[-1] + 1)[place]
    samples = rng.normal(0, 0.01, len(time))
    for harmonic in range(1, 30):
        gain = np.exp(-(((harmonic * 120 - formants) / 150) ** 2)).sum(axis=1)
        samples += loudness * gain * np.sin(2 * np.pi * harmonic * pitch)
    return (3000 * samples).astype(np.float32)


def static_of(features: FeatureConfig, seconds: float = 3.0) -> np.ndarray:
    return FeatureExtractor(features)(speech(seconds))


def make_experiment(model: ModelConfig, features: FeatureConfig | None = None, **parts) -> Experiment:
    """An untrained network whose weights are large enough for what is said to matter."""
    features = features or FeatureConfig()
    config = ExperimentConfig(features=features, model=model, decoding=parts.pop("decoding", DecodingConfig()))
    network = make_model(config, TOKENS).eval()
    with torch.no_grad():
        for head in filter(None, (network.output, network.frame_output)):
            head.weight *= 5
    stats = accumulate(static_of(replace(features, cmvn="none")) + np.float32(0.5))
    return Experiment(config, TOKENS, network, stats, parts.pop("lm", None), **parts)


def assert_same(experiment: Experiment, statics: list[np.ndarray]) -> None:
    """Log-probabilities of both heads, for steps and for frames, with statistics of their own and with given ones."""
    exported, expected = OnnxModel(export_model(experiment)), TorchModel(experiment)
    given = accumulate(np.float32(1.1) * max(statics, key=len) + np.float32(1.0)) * 3
    for static in statics:
        for stats in (None, given):
            ours, theirs = exported.log_probs(static, stats), expected.log_probs(static, stats)
            assert ours.shape == theirs.shape
            assert len(static) < 50 or np.ptp(theirs[:, 1:], axis=0).max() > 1
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
            ours, theirs = exported.outputs_by_frame(static, stats), expected.outputs_by_frame(static, stats)
            assert ours.by_frame and theirs.by_frame
            for head, reference in (
                (ours.log_probs, theirs.log_probs),
                (ours.frame_log_probs, theirs.frame_log_probs),
            ):
                assert (head is None) == (reference is None)
                if head is not None:
                    assert len(head) == len(static)
                    np.testing.assert_allclose(head, reference, rtol=0, atol=1e-4)


@pytest.mark.parametrize("head", ["frames", "both"])
@pytest.mark.parametrize("frontend", ["none", "conv2d", "tdnn"])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_log_probs_are_those_of_pytorch(cell: str, bidirectional: bool, frontend: str, head: str) -> None:
    shape = {"cell": cell, "bidirectional": bidirectional, "frontend": frontend, "head": head, **CELLS[cell]}
    sizes = {"num_layers": 2, "hidden_size": 12, "conv_channels": 4, "tdnn_size": 12}
    static = static_of(FeatureConfig(), 1.0)
    assert_same(make_experiment(ModelConfig(**shape, **sizes)), [static, static[:1]])


@pytest.mark.parametrize(
    "shape",
    [
        {"residual": True, "num_layers": 3},
        {"residual": True, "bidirectional": False, "stack": 1, "skip": 1, "hidden_size": 39, "num_layers": 1},
        {"layer_norm": False, "residual": True},
        {"stack": 1, "skip": 1},
        {"stack": 5, "skip": 2},
        {"stack": 4, "skip": 4, "cell": "gru", "init": "orthogonal"},
        {"cell": "peephole_lstm", "init_range": 0.5},
        {"self_conditioning": True, "num_layers": 3, "residual": True},
        {"self_conditioning": True, "bidirectional": False, "head": "both"},
        {"encoder": "transformer", "attention_reach": 5, "head": "both"},
        {"encoder": "transformer", "num_heads": 3, "attention_reach": 200, "stack": 1, "skip": 1, "num_layers": 3},
        {"encoder": "conformer", "attention_reach": 5, "conv_kernel": 3, "self_conditioning": False},
        {"encoder": "conformer", "frontend": "conv2d", "conv_channels": 4, "attention_reach": 40, "head": "frames"},
    ],
    ids=lambda shape: " ".join(f"{name}={value}" for name, value in shape.items()),
)
def test_shapes_of_the_network(shape: dict) -> None:
    sizes = {"num_layers": 2, "hidden_size": 12}
    static = static_of(FeatureConfig(), 1.0)
    assert_same(make_experiment(ModelConfig(**{**sizes, **shape})), [static[:n] for n in (1, 2, 50, 98)])


@pytest.mark.parametrize(
    "settings",
    [
        {"cmvn": "global"},
        {"cmvn": "utterance"},
        {"cmvn": "none"},
        {"cmvn": "running"},
        {"cmvn": "global", "norm_vars": False},
        {"delta_order": 0},
        {"delta_order": 1, "delta_window": 3},
        {"delta_order": 3, "delta_window": 1},
        {"kind": "fbank", "num_mel_bins": 21},
        {"cmvn": "speech_utterance"},
        {"cmvn": "speech_global", "norm_vars": False, "use_energy": True},
        {"cmvn": "speech_running", "kind": "fbank"},
    ],
    ids=lambda settings: " ".join(f"{name}={value}" for name, value in settings.items()),
)
@pytest.mark.parametrize("frontend", ["none", "conv2d"])
def test_kinds_of_features(settings: dict, frontend: str) -> None:
    features = FeatureConfig(**settings)
    model = ModelConfig(num_layers=1, hidden_size=12, frontend=frontend, conv_channels=4, bidirectional=False)
    static = static_of(features, 1.0)
    silence = FeatureExtractor(features)(Waveform(np.zeros(8000, np.float32), 16000))
    statics = [static[:1], static[:2], static, np.concatenate([silence, static])]
    assert_same(make_experiment(model, features), statics)


def test_all_that_decoding_needs_is_in_the_file() -> None:
    rng = np.random.default_rng(1)
    sentences = [rng.choice(TOKENS.phones, rng.integers(2, 9)).tolist() for _ in range(50)]
    lm = train_ngram(sentences, 3, TOKENS.phones)
    features = FeatureConfig(cmvn="global", frame_shift_ms=12.5)
    experiment = make_experiment(
        ModelConfig(num_layers=1, hidden_size=8, stack=4, skip=2, bidirectional=False, frontend="tdnn", tdnn_size=8),
        features,
        lm=lm,
        calibration=Calibration(0.5, 0.25, 0.125, 0.75, -0.125),
        decoding=DecodingConfig(beam=7, lm_weight=0.7),
    )
    found = OnnxModel(export_model(experiment, "digest"))
    assert (found.features, found.config) == (features, experiment.config.model)
    assert found.decoding == experiment.config.decoding
    assert found.calibration == experiment.calibration
    assert found.tokens == TOKENS
    assert found.made_from == "digest"
    assert (found.stack, found.skip, found.bidirectional, found.reach) == (4, 2, False, 4 + 6)
    np.testing.assert_array_equal(found.global_cmvn, experiment.global_cmvn)
    for name, value in vars(lm.automaton).items():
        assert np.array_equal(getattr(found.lm, name), value), name
    log_probs = found.log_probs(static_of(features))
    searches = [make_search(found.decoding, each) for each in (found.lm, lm.automaton)]
    assert searches[0].decode(log_probs, 5) == searches[1].decode(log_probs, 5)
    assert OnnxModel(export_model(replace(experiment, lm=None, calibration=None))).lm is None


def test_the_largest_difference_is_found() -> None:
    experiment = make_experiment(ModelConfig(num_layers=1, hidden_size=8))
    exported = OnnxModel(export_model(experiment))
    static = static_of(FeatureConfig())
    utterances = [(static, None), (static[:30], accumulate(static)), *made_up_sample(experiment).utterances]
    assert 0 < max_difference(experiment, exported, utterances) < 1e-4
    with torch.no_grad():
        experiment.model.output.bias[2] += 1  # every log-probability moves by less than 1
    assert 0.5 < max_difference(experiment, exported, utterances) < 1
    assert max_difference(experiment, exported, iter([])) == np.inf
    frames = make_experiment(ModelConfig(num_layers=1, hidden_size=8, head="frames"))
    assert max_difference(frames, exported, utterances) == np.inf


@pytest.mark.parametrize(("shape", "over"), [((3, 5), 1), ((5, 3), 0), ((2, 8, 6), 2), ((4, 3, 2, 2), (1, 2, 3))])
def test_weights_in_8_bits_are_near_and_exact_multiples(shape: tuple[int, ...], over: int | tuple[int, ...]) -> None:
    """As near as one scale for each output allows; products are exact in float32, rounding again changes nothing."""
    weights = np.random.default_rng(1).normal(0, 3, shape).astype(np.float32)
    weights.flat[:: weights.size // 3] *= 1e-20
    whole, scales = in_8_bits(weights, over)
    assert (whole.dtype, scales.dtype, whole.shape) == (np.int8, np.float32, shape)
    expanded = whole * scales
    assert np.array_equal(expanded.astype(np.float64), whole * scales.astype(np.float64))
    largest = np.abs(weights).max(axis=over, keepdims=True)
    assert np.array_equal(np.abs(whole).max(axis=over, keepdims=True), np.full(largest.shape, 127))
    assert (np.abs(expanded - weights) <= 0.50001 / 127 * largest).all()
    again, same_scales = in_8_bits(expanded, over)
    assert np.array_equal(again, whole)
    assert np.array_equal(same_scales, scales)


def test_weights_of_zero_stay_zero() -> None:
    whole, scales = in_8_bits(np.zeros((2, 3), np.float32), 1)
    assert not whole.any()
    assert np.array_equal(scales, [[1.0], [1.0]])


@pytest.mark.parametrize(
    "shape",
    [{"cell": cell, **CELLS[cell]} for cell in CELLS]
    + [{"frontend": "conv2d", "bidirectional": False}, {"cell": "jordan", "frontend": "tdnn", "bidirectional": False}]
    + [{"encoder": "transformer"}, {"encoder": "conformer", "frontend": "conv2d"}],
    ids=lambda shape: " ".join(str(value) for value in shape.values()),
)
def test_8_bit_weights_are_expanded_to_what_pytorch_has(shape: dict) -> None:
    """All weights, and nothing but weights, are stored in 8 bits."""
    experiment = make_experiment(ModelConfig(**{"num_layers": 2, "hidden_size": 64, **shape}))
    content, small = export_model(experiment, "digest"), export_model(experiment, "digest", is_8_bit=True)
    rounded = with_8_bit_weights(experiment)
    sample = made_up_sample(experiment)
    static = static_of(FeatureConfig())
    exact, expanded = (OnnxModel(each).log_probs(static) for each in (export_model(rounded), small))
    assert np.array_equal(exact, expanded)
    assert compared_export(experiment, "digest", sample, "x", is_8_bit=True)[0] == small
    assert max_difference(experiment, OnnxModel(small), made_up_sample(experiment).utterances) > 1e-4
    assert len(small) < 0.4 * len(content)

    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load_from_string(small).graph.initializer}
    num_in_8_bits = sum(array.size for array in stored.values() if array.dtype == np.int8)
    as_they_are = ("weight_ch", "bias_of_distance")
    with_rows = {
        name: each
        for name, each in experiment.model.named_parameters()
        if each.dim() > 1 and not any(kind in name for kind in as_they_are)
    }
    assert num_in_8_bits >= sum(each.numel() for each in with_rows.values())
    pairs = {name: (each, rounded.model.get_parameter(name)) for name, each in experiment.model.named_parameters()}
    unchanged = {name for name, pair in pairs.items() if torch.equal(*pair)}
    assert unchanged == pairs.keys() - with_rows.keys()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_8_bit_weights_give_the_same_whatever_the_pieces(bidirectional: bool) -> None:
    """Scales are of weights alone: what enters a window has no part in what another gives."""
    config = ModelConfig(num_layers=2, hidden_size=32, bidirectional=bidirectional)
    model = OnnxModel(export_model(make_experiment(config, FeatureConfig(cmvn="global")), is_8_bit=True))
    static = static_of(model.features)
    whole = model.log_probs(static)
    if bidirectional:
        loud = np.concatenate([static, 100 * static])
        alone, beside = (model.step(each, num_steps=1)[0].log_probs for each in (static, loud))
        assert np.array_equal(alone, beside)
        return
    for size in (1, 7, 50):
        stream = OutputStream(model, model.global_cmvn)
        parts = [stream.accept(static[begin : begin + size]) for begin in range(0, len(static), size)]
        joined = np.concatenate([each.log_probs for each in (*parts, stream.finish())])
        np.testing.assert_allclose(joined, whole, rtol=0, atol=1e-5)


def test_a_language_model_is_packed_without_loss() -> None:
    """Every bit of it, in less than half the size of its arrays."""
    rng = np.random.default_rng(1)
    ngrams = train_ngram([rng.choice(TOKENS.phones, 30).tolist() for _ in range(300)], 5, TOKENS.phones)
    experiment = make_experiment(ModelConfig(num_layers=1, hidden_size=8))
    content, without = export_model(replace(experiment, lm=ngrams)), export_model(experiment)
    found, lm = OnnxModel(content).lm, ngrams.automaton
    assert found is not None
    arrays = {name: value for name, value in vars(lm).items() if isinstance(value, np.ndarray)}
    for name, array in arrays.items():
        read = getattr(found, name)
        assert (read.dtype, read.tobytes()) == (array.dtype, array.tobytes()), name
        assert read.flags.aligned, name
    assert (found.start, found.num_classes) == (lm.start, lm.num_classes)

    small = export_model(replace(experiment, lm=ngrams), is_8_bit=True)
    rounded = OnnxModel(small).lm
    assert rounded is not None
    for name, array in arrays.items():
        read = getattr(rounded, name)
        assert np.array_equal(read, array.astype(np.float32) if array.dtype.kind == "f" else array), name
        assert (read.dtype, np.abs(read - array).max() < 1e-6) == (array.dtype, True), name
    assert len(small) < len(content) - 3 * len(lm.log_probs)
    assert len(content) - len(without) < 0.5 * sum(array.nbytes for array in arrays.values())


def test_a_neural_language_model_is_in_the_file(tmp_path: Path) -> None:
    """In the export, and in final.pt, from which it was made."""
    lm = random_network("gru", TOKENS.phones)
    features = FeatureConfig()
    config = DecodingConfig(beam=4, lm_weight=0.7)
    experiment = make_experiment(ModelConfig(num_layers=1, hidden_size=8), features, lm=lm, decoding=config)
    log_probs = OnnxModel(export_model(experiment)).log_probs(static_of(features))
    expected = make_search(config, lm).decode(log_probs, 3)
    for is_8_bit in (False, True):
        found = OnnxModel(export_model(experiment, is_8_bit=is_8_bit)).lm
        assert make_search(config, found).decode(log_probs, 3) == expected
    parts = experiment.config, TOKENS, experiment.model, experiment.global_cmvn, Supplement(lm_text(lm))
    save_experiment(tmp_path, *parts)
    assert make_search(config, load_experiment(tmp_path).lm_automaton).decode(log_probs, 3) == expected
