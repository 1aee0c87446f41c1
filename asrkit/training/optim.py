"""Optimizers and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from asrkit.training.checkpoint import is_like
from asrkit.training.config import OptimizerName, TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The configured optimizer of all weights. The learning rate is set before each update, from a schedule."""
    return OPTIMIZERS[config.optimizer](model, config)


def _adamw(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Loshchilov and Hutter 2019."""
    return torch.optim.AdamW(model.parameters(), lr=config.max_lr, weight_decay=config.weight_decay, fused=True)


def _sgd(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum and L2 weight decay."""
    return torch.optim.SGD(
        model.parameters(), config.max_lr, config.momentum, weight_decay=config.weight_decay, fused=True
    )


OPTIMIZERS: dict[OptimizerName, Callable[[nn.Module, TrainingConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


# What they keep for each weight: tensors like it, and AdamW's number of updates.
_STATES: dict[type[torch.optim.Optimizer], set[str]] = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.SGD: {"momentum_buffer"},
}


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Let an optimizer go on from what its `state_dict` gave; its settings stay.

    Raises ValueError or LookupError for another's: fused updates write to these tensors without a look at their sizes.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, state in saved["state"].items():
        like = {name: torch.zeros(()) if name == "step" else weights[number] for name in _STATES[type(optimizer)]}
        if state.keys() != like.keys() or not all(is_like(state[name], tensor) for name, tensor in like.items()):
            raise ValueError("the optimizer's state belongs to other weights")
    optimizer.load_state_dict({"state": saved["state"], "param_groups": optimizer.state_dict()["param_groups"]})


def set_rate(optimizer: torch.optim.Optimizer, rate: float, momentum: float | None = None) -> None:
    """Set the learning rate, and AdamW's decay of the gradients' mean when `momentum` is given."""
    for group in optimizer.param_groups:
        group["lr"] = rate
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])


def clip_gradients(model: nn.Module, config: TrainingConfig) -> float:
    """Scale all gradients down to `clip_norm` together, then limit each to +-`clip_value`.

    Returns: their Euclidean norm as it was before.
    """
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf).item()
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
    return norm
