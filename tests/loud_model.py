"""A network made by hand whose results are known: it finds a phone where it is loud, and nothing elsewhere."""

from collections.abc import Sequence

import numpy as np
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.config import DecodingConfig
from asrkit.experiment import Experiment, make_model
from asrkit.features.config import FeatureConfig
from asrkit.inference.export import export_model
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.types import CorpusInfo

RATE = 16000


def loud_speech(hertz: float = 750.0) -> np.ndarray:
    """0.3 s of a loud tone, (num_samples,) float32 on the int16 scale."""
    return (4000 * np.sin(2 * np.pi * hertz * np.arange(3 * RATE // 10) / RATE)).astype(np.float32)


def loud_model(
    quiet: str | None = None, phones: Sequence[str] = ("sil", "a", "e"), corpus: CorpusInfo | None = None
) -> bytes:
    """An exported unidirectional network: the second of its `phones` in loud frames, else `quiet` (None: blank).

    `corpus`: what it says that it was trained on.
    """
    config = ExperimentConfig(
        features=FeatureConfig(cmvn="none", delta_order=0, use_energy=True, energy_floor=1.0),
        model=ModelConfig(
            bidirectional=False,
            num_layers=1,
            hidden_size=1,
            cell="elman",
            layer_norm=False,
            self_conditioning=False,
            stack=1,
            skip=1,
        ),
        decoding=DecodingConfig(beam=4, lm_weight=0.0, insertion_bonus=0.0),
    )
    tokens = TokenTable(list(phones))
    network = make_model(config, tokens).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.zero_()
        parts = [weights for _, weights in network.stack.named_parameters()]
        next(weights for weights in parts if weights.shape == (1, 13))[0, 0] = 1.0
        next(weights for weights in parts if weights.shape == (1,))[0] = -10.0  # tanh(log energy - 10)
        classes = [0 if quiet is None else tokens.encode([quiet])[0], *tokens.encode([phones[1]])]
        network.output.bias[:] = -20.0
        network.output.bias[classes] = 0.0
        network.output.weight[classes, 0] = torch.tensor([-5.0, 5.0])
    return export_model(Experiment(config, tokens, network, np.ones((2, 14)), None, corpus=corpus))
