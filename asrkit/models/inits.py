"""The ways to draw a network's initial weights, by their names in `model.init`. This table loads no torch."""

from __future__ import annotations

from typing import Literal

from asrkit.models.choice import Choice

InitName = Literal["uniform", "orthogonal"]

# Each is a function of the network and ModelConfig.
INITS: dict[InitName, Choice] = {
    "uniform": Choice("asrkit.models.initial_weights", "set_uniform", settings=["init_range"]),
    "orthogonal": Choice("asrkit.models.initial_weights", "set_orthogonal"),
}
