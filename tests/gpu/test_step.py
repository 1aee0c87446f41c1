"""A training step on the device: its log-probabilities and gradients are those of the CPU in float64."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.models import attention
from asrkit.models.acoustic import AcousticModel
from asrkit.models.attention import HardReading
from asrkit.models.batching import Batch, collate
from asrkit.models.cells import CELLS
from asrkit.models.config import ModelConfig
from asrkit.models.decoder import DecoderTraining
from asrkit.models.decoder_config import CONTEXTS, DECODER_CELLS, SCORES, WINDOWS, DecoderConfig
from asrkit.models.encoders import ENCODERS
from asrkit.models.frontends import FRONT_ENDS
from asrkit.models.heads import HEADS
from asrkit.training.step import compute_gradients

FEAT_DIM, NUM_TOKENS = 6, 5
# Each is ModelConfig without the sizes; "decoder" is DecoderConfig without them.
MODELS: dict[str, dict] = {
    **{f"cell {name}": {"cell": name} for name in CELLS},
    "projection": {"projection_size": 8},
    "one direction": {"bidirectional": False},
    "relu": {"cell": "elman", "nonlinearity": "relu"},
    **{f"encoder {name}": {"encoder": name, "head": "joint"} for name in ENCODERS},
    **{f"front end {name}": {"frontend": name} for name in FRONT_ENDS},
    **{f"head {name}": {"head": name} for name in HEADS},
    "transformer decoder": {"head": "attention", "decoder": {"layers": "transformer", "num_heads": 2}},
    **{f"decoder cell {name}": {"head": "transducer", "decoder": {"cell": name}} for name in DECODER_CELLS},
    **{
        f"{setting} {name}": {"head": "attention", "decoder": {setting: name}}
        for setting, names in {"score": SCORES, "context": CONTEXTS, "window": WINDOWS}.items()
        for name in names
    },
}
EACH_MODEL = pytest.mark.parametrize("settings", MODELS.values(), ids=MODELS)


def make_model(settings: dict) -> AcousticModel:
    """A small untrained model without dropout."""
    torch.manual_seed(1)
    decoder = DecoderConfig(hidden_size=32, dropout=0.0, **settings.get("decoder", {}))
    sizes = {"num_layers": 2, "hidden_size": 16, "dropout": 0.0, "stack": 2, "skip": 2}
    config = ModelConfig(**{**sizes, **settings, "decoder": decoder})
    return AcousticModel(config, FEAT_DIM, NUM_TOKENS, feat_channels=3)


def make_batch() -> Batch:
    """Three utterances of different lengths."""
    rng = np.random.default_rng(1)
    lens = {"a": 41, "b": 30, "c": 23}
    feats = {name: rng.standard_normal((length, FEAT_DIM), np.float32) for name, length in lens.items()}
    tokens = {name: rng.integers(1, NUM_TOKENS, length // 8).tolist() for name, length in lens.items()}
    labels = {name: rng.integers(-1, NUM_TOKENS, length) for name, length in lens.items()}
    labels = {name: np.where(label == 0, -1, label) for name, label in labels.items()}
    return collate(list(lens), feats, tokens, labels)


def on_device(batch: Batch, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
    """The batch as training moves it: the numbers of tokens stay on the CPU."""
    assert batch.frame_labels is not None
    return replace(
        batch,
        feats=batch.feats.to(device, dtype),
        feat_lens=batch.feat_lens.to(device),
        tokens=batch.tokens.to(device),
        frame_labels=batch.frame_labels.to(device),
    )


def step(model: AcousticModel, batch: Batch, bf16: bool = False) -> tuple[float, list[torch.Tensor], torch.Tensor]:
    """The loss, the gradients in float64 on the CPU, and the input of decoding without its padded steps."""
    heads = model.config.heads
    frame_weight = heads.frame_weight(0.3)
    decoder = DecoderTraining(heads.decoder_weight(0.3), label_smoothing=0.1)
    model.train()
    losses = compute_gradients(model, batch, None, frame_weight, bf16, decoder)
    gradients = [
        torch.zeros_like(weight).cpu() if weight.grad is None else weight.grad.double().cpu()
        for weight in model.parameters()
    ]
    model.eval()
    with torch.inference_mode():
        outputs, lens = model(batch.feats, batch.feat_lens)
    valid = torch.arange(outputs.shape[1], device=lens.device) < lens[:, None]
    return float(losses.mean(frame_weight, decoder.weight)), gradients, outputs[valid].double().cpu()


def relative_error(found: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The norm of the difference over the norm of what is right."""
    found_all, right_all = (torch.cat([each.flatten() for each in every]) for every in (found, right))
    assert right_all.norm() > 0
    return float((found_all - right_all).norm() / right_all.norm())


def same_numbers_like(inputs: torch.Tensor) -> torch.Tensor:
    """Random numbers as those of uniform_like, but the same on every device and in every precision."""
    return torch.rand(inputs.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(inputs)


@EACH_MODEL
def test_outputs_and_gradients_are_those_of_the_cpu(settings: dict, device: torch.device) -> None:
    expect_those_of_the_cpu(settings, device)


def test_hard_attention_learns_from_a_draw_as_on_the_cpu(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "uniform_like", same_numbers_like)
    expect_those_of_the_cpu({"head": "attention", "decoder": {"reading": "hard"}}, device)


def test_hard_attention_draws_steps_by_their_weights(device: torch.device) -> None:
    torch.manual_seed(1)
    weights = torch.tensor([0.2, 0.0, 0.5, 0.3], device=device).repeat(4000, 1, 1, 1)
    taken, draw = HardReading().train()(weights)
    assert draw is not None and draw.log_prob.device.type == device.type
    assert (taken.sum(dim=3) == 1).all()
    assert taken.mean(dim=(0, 1, 2)).tolist() == pytest.approx([0.2, 0.0, 0.5, 0.3], abs=0.03)
    torch.testing.assert_close(draw.log_prob[:, 0].exp(), (taken * weights).sum(dim=(1, 2, 3)))


def expect_those_of_the_cpu(settings: dict, device: torch.device) -> None:
    """Compare a training step on the device with the same on the CPU."""
    model, batch = make_model(settings), make_batch()
    right = step(copy.deepcopy(model).double(), on_device(batch, torch.device("cpu"), torch.float64))
    loss, gradients, outputs = step(model.to(device), on_device(batch, device))
    assert loss == pytest.approx(right[0], rel=1e-5)
    finite = torch.isfinite(right[2])  # the frame head's blank has probability 0
    assert torch.equal(torch.isfinite(outputs), finite)
    assert torch.allclose(outputs[finite], right[2][finite], rtol=1e-4, atol=1e-4)
    assert relative_error(gradients, right[1]) < 1e-4


@pytest.mark.parametrize("name", ["cell lstm", "cell gru", "head both", "head joint", "encoder conformer"])
def test_bf16_comes_near_float32(name: str, device: torch.device) -> None:
    model, batch = make_model(MODELS[name]).to(device), on_device(make_batch(), device)
    right = step(model, batch)
    loss, gradients, _ = step(model, batch, bf16=True)
    assert loss != right[0]  # it did compute in bfloat16
    assert loss == pytest.approx(right[0], rel=0.02)
    assert relative_error(gradients, right[1]) < 0.1
