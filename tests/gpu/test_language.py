"""Neural language models on the device: an update's loss and gradients, and the loss on dev, are those of the CPU."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from asrkit.models.language import LanguageModel
from asrkit.models.language_config import NETWORKS, LanguageConfig, NetworkName
from asrkit.training.lm_config import LmTrainingConfig
from asrkit.training.lm_loop import LmText, LmTraining, evaluate

TEXT = LmText([[1, 2, 3] * (1 + number % 4) for number in range(32)], [[1, 2, 3], [1, 2, 3, 1, 2, 3]])
CONFIG = LmTrainingConfig(num_epochs=2, batch_size=8, bptt_steps=5, max_lr=0.01, optimizer="sgd", schedule="constant")


def weights_of(model: LanguageModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().double().cpu() for weight in model.parameters()])


@pytest.mark.parametrize("network", NETWORKS)
def test_training_is_that_of_the_cpu(network: NetworkName, tmp_path: Path, device: torch.device) -> None:
    torch.manual_seed(1)
    model = LanguageModel(LanguageConfig(network, hidden_size=8, embedding_size=8, dropout=0.0), 4).double()
    before, losses, trained = weights_of(model), [], []
    for name in ("cpu", str(device)):
        config = LmTrainingConfig(**{**vars(CONFIG), "device": name})
        own, directory = copy.deepcopy(model), tmp_path / f"{len(losses)}"
        directory.mkdir()
        training = LmTraining(own, config, TEXT, directory, "run")
        assert next(own.parameters()).device.type == name
        losses.append((evaluate(own, TEXT.dev), training.run(lambda model: "").dev_loss))
        trained.append(weights_of(own))
        assert next(own.parameters()).device.type == "cpu"  # where searches use it
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert (trained[1] - trained[0]).norm() < 1e-6 * (trained[0] - before).norm()
