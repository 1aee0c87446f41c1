"""Exported models beside PyTorch: every cell, front end, head and kind of features, on audio like speech."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import make_search
from asrkit.experiment import Experiment, make_model
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference.export import export_model, int8_model, made_up_sample, max_difference
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.torch_model import TorchModel
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.models.config import ModelConfig
from asrkit.types import Waveform

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
    return Waveform((3000 * samples).astype(np.float32), 16000)


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
    frames = make_experiment(ModelConfig(num_layers=1, hidden_size=8, head="frames"))
    assert max_difference(frames, exported, utterances) == np.inf


@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm", "projected", "gru"])
def test_8_bit_weights_are_small_and_nearly_the_same(cell: str) -> None:
    shape = {"cell": cell, "num_layers": 2, "hidden_size": 64, **CELLS[cell]}
    content = export_model(make_experiment(ModelConfig(**shape)), "digest")
    small = int8_model(content)
    exact, rounded = OnnxModel(content), OnnxModel(small)
    assert rounded.made_from == "digest"
    static = static_of(FeatureConfig())
    ours, theirs = rounded.log_probs(static), exact.log_probs(static)
    assert 1e-4 < np.abs(ours - theirs).mean() < 0.1
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.9
    if "lstm" in cell:
        assert len(small) < 0.4 * len(content)
