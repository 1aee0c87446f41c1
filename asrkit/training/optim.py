"""Optimisers and gradient clipping."""

from __future__ import annotations

import math

import torch
from torch import nn

from asrkit.training.config import TrainingConfig


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), or stochastic gradient descent with momentum and L2 weight decay.

    The learning rate is set before each update, from a schedule.
    """
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.max_lr, weight_decay=config.weight_decay, fused=True)
    return torch.optim.SGD(
        model.parameters(), config.max_lr, config.momentum, weight_decay=config.weight_decay, fused=True
    )


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
