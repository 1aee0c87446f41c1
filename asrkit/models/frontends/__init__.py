"""The front ends by their names in `model.frontend`: layers over frames, before stacking. This table loads no torch.

A new front end needs a module with a class that is a `FrontEnd`, and a row in FRONT_ENDS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.models.choice import Choice

FrontEndName = Literal["none", "conv2d", "tdnn"]


@dataclass(frozen=True, kw_only=True)
class FrontEndChoice(Choice):
    """A FrontEnd. It is made from the dimension and the channels of the features, and from ModelConfig.

    Attributes:
        reach: frames before and after a frame on which its output depends.
    """

    reach: int


FRONT_ENDS: dict[FrontEndName, FrontEndChoice] = {
    "none": FrontEndChoice(module="asrkit.models.frontends.none", name="NoFrontEnd", reach=0),
    "conv2d": FrontEndChoice(module="asrkit.models.frontends.conv2d", name="Conv2dFrontEnd", reach=2),
    "tdnn": FrontEndChoice(module="asrkit.models.frontends.tdnn", name="TdnnFrontEnd", reach=6),
}
