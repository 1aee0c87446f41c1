"""What an experiment's network gives to searches and to phone times on the device: the same as on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.experiment import Experiment, make_model
from asrkit.features.cmvn import accumulate
from asrkit.inference.torch_model import TorchModel
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import DecoderConfig
from asrkit.models.heads import HEADS, HeadName

TOKENS = TokenTable(["a", "b", "c", "sil"])


def make_experiment(rng: np.random.Generator, **settings: Any) -> Experiment:
    """An untrained experiment, whose outputs differ from step to step. `settings` are ModelConfig's, but for sizes."""
    decoder = DecoderConfig(hidden_size=32)
    model = ModelConfig(num_layers=2, hidden_size=16, stack=3, skip=2, decoder=decoder, **settings)
    config = ExperimentConfig(model=model)
    network, stats = make_model(config, TOKENS), accumulate(rng.standard_normal((500, config.features.num_static)))
    torch.manual_seed(1)
    with torch.no_grad():
        for output in filter(None, (network.output, network.frame_output)):
            output.weight.normal_(0, 2)
    return Experiment(config, TOKENS, network.eval(), stats, None)


def assert_near(found: np.ndarray | None, right: np.ndarray | None) -> None:
    """Both are log-probabilities, or both are missing. The frame head's blank has probability 0."""
    assert (found is None) == (right is None)
    if found is not None and right is not None:
        assert len(right) > 0 and np.ptp(right[np.isfinite(right)]) > 1
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_posteriors_are_those_of_the_cpu(head: HeadName, device: torch.device) -> None:
    rng = np.random.default_rng(1)
    experiment = make_experiment(rng, head=head)
    usual, model = TorchModel(experiment), TorchModel(experiment, str(device))
    assert next(model.network.parameters()).device.type == device.type
    static = rng.standard_normal((50, experiment.config.features.num_static)).astype(np.float32)
    assert_near(model.log_probs(static), usual.log_probs(static))
    of_frames, right = model.outputs_by_frame(static), usual.outputs_by_frame(static)
    assert_near(of_frames.frame_log_probs, right.frame_log_probs)
    if experiment.config.model.heads.has_ctc or experiment.config.model.heads.has_frames:
        assert_near(of_frames.log_probs, right.log_probs)
    feats = [rng.standard_normal((length, experiment.config.features.dim)).astype(np.float32) for length in (31, 50, 4)]
    for found, expected in zip(model.batch(feats), usual.batch(feats), strict=True):
        assert_near(found, expected)
