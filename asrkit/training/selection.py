"""Which weights of a training are kept, by their names in `training.select`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SelectName = Literal["best", "average", "ema"]


@dataclass(frozen=True)
class Selection:
    """Which weights are evaluated on dev after each epoch, and which are kept at the end.

    Attributes:
        evaluates_average: evaluate and keep an exponential moving average (EMA) in place of the weights themselves.
        keeps_mean: keep the mean of the best epochs' weights in place of the best epoch's weights.
    """

    evaluates_average: bool = False
    keeps_mean: bool = False


SELECTIONS: dict[SelectName, Selection] = {
    "best": Selection(),
    "average": Selection(keeps_mean=True),
    "ema": Selection(evaluates_average=True),
}
