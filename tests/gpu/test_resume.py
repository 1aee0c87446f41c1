"""A training that goes on from a checkpoint of the device ends where one without a break does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet
from asrkit.training.loop import train_epoch
from asrkit.training.state import EpochRecord, TrainingState

CONFIG = TrainingConfig(num_epochs=2, batch_size=4, max_lr=0.01, schedule="constant", input_noise=0.1)
BATCHES = 4


def make_data() -> TrainingSet:
    rng = np.random.default_rng(1)
    lens = {f"utt{i:02d}": int(length) for i, length in enumerate(rng.integers(20, 60, 4 * BATCHES))}
    feats = {name: rng.standard_normal((length, 6), np.float32) for name, length in lens.items()}
    return TrainingSet(feats, lens, {name: rng.integers(1, 5, length // 8).tolist() for name, length in lens.items()})


def new_state(directory: Path, device: torch.device, is_drawn: bool = True) -> TrainingState:
    """The state of a run in `directory`, from its checkpoint if there is one. `is_drawn`: with noise and dropout."""
    torch.manual_seed(1)
    dropout, config = (0.3, CONFIG) if is_drawn else (0.0, replace(CONFIG, input_noise=0.0, random_offset=False))
    shape = ModelConfig(num_layers=1, hidden_size=16, dropout=dropout, stack=2, skip=2)
    model = AcousticModel(shape, 6, 5).to(device)
    directory.mkdir(exist_ok=True)
    return TrainingState(model, config, BATCHES, directory, "run")


def end_epoch(state: TrainingState) -> None:
    """End the epoch without an evaluation on dev."""
    state.end_epoch(EpochRecord(state.epoch, 1, 1.0, 1.0, 50.0, False, 0.01, 1.0, 0, 0.0))


def weights_of(state: TrainingState) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().double().cpu() for weight in state.model.parameters()])


def test_the_resumed_epoch_is_that_of_a_run_without_a_break(tmp_path: Path, device: torch.device) -> None:
    data = make_data()
    state = new_state(tmp_path / "whole", device)
    train_epoch(state, data)
    end_epoch(state)
    between = weights_of(state)
    train_epoch(state, data)

    begun = new_state(tmp_path / "parts", device)
    train_epoch(begun, data)
    end_epoch(begun)
    resumed = new_state(tmp_path / "parts", device)
    assert resumed.epoch == 2
    assert next(resumed.model.parameters()).device.type == device.type
    train_epoch(resumed, data)

    if device.type == "cpu":
        assert torch.equal(weights_of(resumed), weights_of(state))
    else:  # CTC's gradients are sums in an order that changes
        way = weights_of(state) - between
        assert (weights_of(resumed) - weights_of(state)).norm() < 0.02 * way.norm()
