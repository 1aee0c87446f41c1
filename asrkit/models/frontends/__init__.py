"""The front ends, by the names of `model.frontend`: layers over frames, before stacking. This table loads no torch.

A new front end is a module with a class that is a `FrontEnd`, and a row in FRONT_ENDS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.models.choice import Choice

FrontEndName = Literal["none", "conv2d", "tdnn"]


@dataclass(frozen=True, kw_only=True)
class FrontEndChoice(Choice):
    """A FrontEnd, made from the dimension and the channels of the features and ModelConfig.

    Attributes:
        reach: frames before a frame, and frames after it, that its output depends on.
    """

    reach: int


FRONT_ENDS: dict[FrontEndName, FrontEndChoice] = {
    "none": FrontEndChoice(module="asrkit.models.frontends.none", name="NoFrontEnd", reach=0),
    "conv2d": FrontEndChoice(module="asrkit.models.frontends.conv2d", name="Conv2dFrontEnd", reach=2),
    "tdnn": FrontEndChoice(module="asrkit.models.frontends.tdnn", name="TdnnFrontEnd", reach=6),
}
