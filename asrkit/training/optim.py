"""Optimizers and gradient clipping."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from asrkit.training.checkpoint import is_like
from asrkit.training.config import OptimizerName, TrainingConfig


class _Eager(torch.optim.Optimizer):
    """An optimizer without torch's care for its compiler, which would be loaded for it: a second of each training."""

    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)


class AdamW(_Eager, torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019), as torch computes it."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SGD(_Eager, torch.optim.SGD):
    """Stochastic gradient descent with momentum and L2 weight decay, as torch computes it."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Make the configured optimizer of all weights. A schedule sets the learning rate before each update."""
    return OPTIMIZERS[config.optimizer](model, config)


def _adamw(model: nn.Module, config: TrainingConfig) -> AdamW:
    return AdamW(model.parameters(), lr=config.max_lr, weight_decay=config.weight_decay, fused=True)


def _sgd(model: nn.Module, config: TrainingConfig) -> SGD:
    return SGD(model.parameters(), config.max_lr, config.momentum, weight_decay=config.weight_decay, fused=True)


OPTIMIZERS: dict[OptimizerName, Callable[[nn.Module, TrainingConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


# What they store for each weight: tensors of the same shape, and for AdamW the number of updates.
_STATES: dict[type[torch.optim.Optimizer], set[str]] = {
    AdamW: {"step", "exp_avg", "exp_avg_sq"},
    SGD: {"momentum_buffer"},
}


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore the state of an optimizer from the result of its `state_dict`. Its settings stay.

    Fused updates write to these tensors without checking their sizes, so the state is checked here.

    Raises:
        ValueError, LookupError: the state belongs to another optimizer.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, state in saved["state"].items():
        like = {name: torch.zeros(()) if name == "step" else weights[number] for name in _STATES[type(optimizer)]}
        if state.keys() != like.keys() or not all(is_like(state[name], tensor) for name, tensor in like.items()):
            raise ValueError("the optimizer's state belongs to other weights")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})


def set_rate(optimizer: torch.optim.Optimizer, rate: float, momentum: float | None = None) -> None:
    """Set the learning rate, and with `momentum` also AdamW's decay of the gradients' mean."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])


def clip_gradients(model: nn.Module, config: TrainingConfig) -> float:
    """Scale all gradients together to a norm of at most `clip_norm`, then limit each to +-`clip_value`.

    Returns:
        The Euclidean norm of the gradients before.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf).item()
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
    return norm
