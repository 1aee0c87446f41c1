"""Updates and clipping against their formulas in NumPy."""

import numpy as np
import pytest
import torch

from asrkit.training.config import TrainingConfig
from asrkit.training.optim import clip_gradients, make_optimizer, set_rate


def model_of(values):
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))
    return model


GRADIENTS = np.array([[1.0, -2.0, 0.5], [0.3, 0.0, -0.7], [-2.0, 1.0, 1.0]])


def run(model, config, rates, momentum=None):
    optimizer = make_optimizer(model, config)
    for gradient, rate in zip(GRADIENTS, rates, strict=True):
        model.weight.grad = torch.from_numpy(gradient)
        set_rate(optimizer, rate, momentum)
        optimizer.step()
    return model.weight.detach().numpy()


def test_sgd_with_momentum():
    model = model_of([1.0, 2.0, 3.0])
    found = run(model, TrainingConfig(optimizer="sgd", momentum=0.8, weight_decay=0.1), [0.5, 0.1, 0.2], momentum=0.5)
    weight, velocity = np.array([1.0, 2.0, 3.0]), np.zeros(3)
    for gradient, rate in zip(GRADIENTS, [0.5, 0.1, 0.2], strict=True):
        velocity = 0.8 * velocity + gradient + 0.1 * weight
        weight = weight - rate * velocity
    np.testing.assert_allclose(found, weight, rtol=1e-12)


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_adamw(momentum):
    """Loshchilov and Hutter 2019, algorithm 2."""
    found = run(model_of([1.0, 2.0, 3.0]), TrainingConfig(weight_decay=0.1), [0.5, 0.1, 0.2], momentum)
    weight, mean, square, beta = np.array([1.0, 2.0, 3.0]), np.zeros(3), np.zeros(3), momentum or 0.9
    for number, (gradient, rate) in enumerate(zip(GRADIENTS, [0.5, 0.1, 0.2], strict=True), start=1):
        mean = beta * mean + (1 - beta) * gradient
        square = 0.999 * square + 0.001 * gradient**2
        step = mean / (1 - beta**number) / (np.sqrt(square / (1 - 0.999**number)) + 1e-8)
        weight = weight - rate * (step + 0.1 * weight)
    np.testing.assert_allclose(found, weight, rtol=1e-10)


@pytest.mark.parametrize(
    ("clip_norm", "clip_value", "expected"),
    [
        (None, None, [3.0, -4.0]),
        (10.0, None, [3.0, -4.0]),
        (1.0, None, [0.6, -0.8]),
        (None, 3.5, [3.0, -3.5]),
        (1.0, 0.7, [0.6, -0.7]),
    ],
)
def test_clipping(clip_norm, clip_value, expected):
    model = model_of([0.0, 0.0])
    model.other = torch.nn.Parameter(torch.zeros(2))  # without a gradient
    model.weight.grad = torch.tensor([3.0, -4.0], dtype=torch.float64)
    assert clip_gradients(model, TrainingConfig(clip_norm=clip_norm, clip_value=clip_value)) == 5.0
    assert model.weight.grad.tolist() == pytest.approx(expected, rel=1e-5)
    assert model.other.grad is None
