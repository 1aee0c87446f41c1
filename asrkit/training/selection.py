"""Which weights of a run are kept, by the names of `training.select`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SelectName = Literal["best", "average", "ema"]


@dataclass(frozen=True)
class Selection:
    """Which weights are evaluated on dev after each epoch, and which are kept at the end.

    Attributes:
        evaluates_average: an exponential moving average (EMA) is evaluated and kept, not the weights themselves.
        keeps_mean: the mean of the best epochs' weights is kept, not those of the best epoch.
    """

    evaluates_average: bool = False
    keeps_mean: bool = False


SELECTIONS: dict[SelectName, Selection] = {
    "best": Selection(),
    "average": Selection(keeps_mean=True),
    "ema": Selection(evaluates_average=True),
}
